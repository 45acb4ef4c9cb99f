use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// Where draws between 0 and 1 come from; tests bring their own.
#[derive(Clone)]
pub(crate) struct Draw(Arc<dyn Fn() -> f64 + Send + Sync>);

// === impl Draw ===

impl Draw {
    pub(crate) fn by(random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(random))
    }

    /// A number from 0 to 1, whatever the source says.
    pub(crate) fn draw(&self) -> f64 {
        let drawn = (self.0)();
        if drawn.is_nan() {
            0.5
        } else {
            drawn.clamp(0.0, 1.0)
        }
    }
}

impl Default for Draw {
    /// Another number each time.
    fn default() -> Self {
        Self::by(|| {
            // Every `RandomState` differs from the one before and between processes.
            let drawn = RandomState::new().hash_one(0_u8) >> 32;
            u32::try_from(drawn).map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX))
        })
    }
}

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draw").finish_non_exhaustive()
    }
}
