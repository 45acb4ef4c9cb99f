//! Whether one can tell two samples of times apart: the area under the curve of
//! whoever guesses by the time alone, by Mann and Whitney (1947).

/// The chance that a time of `ones` is above one of `others`, where equal ones count
/// half: 0.5 where nobody can tell, 0 or 1 where everybody can.
pub(crate) fn auc(ones: &[f64], others: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = ones.iter().map(|&time| (time, true)).collect();
    all.extend(others.iter().map(|&time| (time, false)));
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let ranks: f64 = all
        .chunk_by(|(a, _), (b, _)| a == b)
        .scan(0.0, |before, equal| {
            // Equal times share the mean of their ranks.
            let rank = *before + f64::midpoint(count(equal.len()), 1.0);
            *before += count(equal.len());
            Some(rank * count(equal.iter().filter(|(_, one)| *one).count()))
        })
        .sum();
    let (n, m) = (count(ones.len()), count(others.len()));
    (ranks - n * (n + 1.0) / 2.0) / (n * m)
}

/// For each pair of kinds how well they are told apart.
pub(crate) fn pairs<'a>(kinds: &'a [(&'a str, Vec<f64>)]) -> Vec<(String, f64)> {
    let each = kinds.iter().enumerate();
    each.flat_map(|(at, (one, ones))| {
        kinds[at + 1..].iter().map(move |(other, others)| {
            let pair = format!("{one} {other}");
            (pair, auc(ones, others))
        })
    })
    .collect()
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

#[test]
fn known_answers() {
    let close = |ones: &[f64], others: &[f64], known: f64| {
        let found = auc(ones, others);
        assert!((found - known).abs() < 1e-12, "{found} {known}");
        assert!((auc(others, ones) - (1.0 - known)).abs() < 1e-12);
    };
    close(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], 1.0);
    close(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], 0.5);
    close(&[7.0; 5], &[7.0; 9], 0.5);
    // By scipy.stats.mannwhitneyu: U = 17 of 20, 3.5 of 9, and 23 of 25.
    close(
        &[19.0, 22.0, 16.0, 29.0, 24.0],
        &[20.0, 11.0, 17.0, 12.0],
        0.85,
    );
    close(&[1.0, 2.0, 2.0], &[2.0, 2.0, 1.0], 3.5 / 9.0 + 1.0 / 9.0);
    close(&[1.0, 2.0, 4.0], &[2.0, 3.0], 2.5 / 6.0);
}

#[test]
fn each_pair_is_compared_once() {
    let kinds = [
        ("slow", vec![3.0, 4.0]),
        ("fast", vec![1.0, 2.0]),
        ("same", vec![1.0, 2.0]),
    ];
    let found = pairs(&kinds);
    let known = [("slow fast", 1.0), ("slow same", 1.0), ("fast same", 0.5)];
    assert_eq!(found, known.map(|(pair, auc)| (pair.to_owned(), auc)));
}
