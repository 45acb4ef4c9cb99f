use uuid::Uuid;

/// A number from 0 to 1: for jitter and for choosing, not for secrets.
pub(crate) fn draw() -> f64 {
    let bits = Uuid::new_v4().as_u64_pair().1;
    // The low 32 bits of a version 4 UUID are all random.
    let low = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    f64::from(low) / f64::from(u32::MAX)
}
