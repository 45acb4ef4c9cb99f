//! Which of several servers that would do.

/// A server that would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) place: usize,
    /// How far it is: 0 is here.
    pub(crate) distance: u8,
    /// How many connections to it are in use.
    pub(crate) in_use: usize,
}

/// The nearest; of several the less busy one of two that are drawn, so that not
/// everybody runs to the same (power of two choices, Mitzenmacher 2001).
pub(crate) fn pick(mut candidates: Vec<Candidate>, draws: [f64; 2]) -> Option<Candidate> {
    let nearest = candidates.iter().map(|one| one.distance).min()?;
    candidates.retain(|one| one.distance == nearest);
    let drawn = draws.map(|draw| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a handful of servers, and a draw between 0 and 1"
        )]
        let at = (draw * candidates.len() as f64) as usize;
        candidates[at.min(candidates.len() - 1)]
    });
    drawn.into_iter().min_by_key(|one| one.in_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(place: usize, distance: u8, in_use: usize) -> Candidate {
        Candidate {
            place,
            distance,
            in_use,
        }
    }

    fn place(candidates: &[Candidate], draws: [f64; 2]) -> Option<usize> {
        pick(candidates.to_vec(), draws).map(|one| one.place)
    }

    #[test]
    fn nearest_is_picked_and_of_two_the_less_busy() {
        let all = [
            candidate(0, 1, 0),
            candidate(1, 0, 9),
            candidate(2, 0, 3),
            candidate(3, 2, 0),
        ];
        assert_eq!(place(&all, [0.0, 0.9]), Some(2));
        assert_eq!(place(&all, [0.9, 0.0]), Some(2));
        assert_eq!(place(&all, [0.0, 0.0]), Some(1));
        assert_eq!(place(&all, [1.0, 1.0]), Some(2));
        assert_eq!(place(&all[3..], [0.5, 0.5]), Some(3));
        assert_eq!(place(&[], [0.5, 0.5]), None);
    }
}
