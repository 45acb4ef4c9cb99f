//! Which server of a node is its primary, from what each says of itself.
//!
//! Nobody is promoted here: whoever did so elsewhere is followed, by the system
//! identifier, which all copies of a cluster share, and by the timeline, which
//! goes up with each promotion. Where that leaves a doubt, nothing is written.

use std::fmt;

/// What a server said when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It did not answer, or nothing that helps.
    Away,
    /// It follows another one and takes no writes.
    Standby {
        system: u64,
    },
    Writable {
        system: u64,
        timeline: u32,
    },
}

/// What is known of a node's servers, as far as they were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The place of the primary.
    pub(crate) primary: usize,
    /// The cluster that the node is.
    pub(crate) system: Option<u64>,
    /// The highest that was ever seen on a primary.
    pub(crate) timeline: u32,
}

/// What follows from a look at all servers of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The known primary is the primary.
    Writable,
    /// Nobody is seen that takes writes; what is known stays.
    Nobody,
    Refused(WritesRefused),
}

/// Why nothing is written to a node, though a server of it would take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WritesRefused {
    /// Several servers take writes: what one stores, the others never see. It
    /// ends when all but one are gone.
    TwoPrimaries,
    /// The only server that takes writes is a former primary: another one was
    /// promoted, and is away. It ends when that one is back.
    FormerPrimary,
    /// Its servers are being looked at for the first time, which did not end in
    /// time. Until then nobody knows whether the listed one was succeeded.
    Unseen,
}

impl Known {
    /// What follows from `seen`, in the order of the node's servers.
    pub(crate) fn judge(self, seen: &[Seen]) -> (Verdict, Self) {
        let system = self.system.or_else(|| self.settle(seen));
        let known = Self { system, ..self };
        let writable = || {
            (seen.iter().enumerate()).filter_map(|(at, seen)| match *seen {
                Seen::Writable {
                    system: of,
                    timeline,
                } if Some(of) == system => Some((at, timeline)),
                _ => None,
            })
        };
        // The newest history, and of two the server that was the primary before.
        let newest = writable().max_by_key(|(at, timeline)| (*timeline, *at == self.primary));
        let Some((primary, timeline)) = newest else {
            return (Verdict::Nobody, known);
        };
        if timeline < self.timeline {
            return (Verdict::Refused(WritesRefused::FormerPrimary), known);
        }
        let known = Self {
            primary,
            timeline,
            ..known
        };
        match writable().count() {
            1 => (Verdict::Writable, known),
            _ => (Verdict::Refused(WritesRefused::TwoPrimaries), known),
        }
    }

    /// Whether `seen` is a server of another cluster.
    pub(crate) fn is_foreign(&self, seen: Seen) -> bool {
        self.system.is_some() && seen.system().is_some_and(|of| Some(of) != self.system)
    }

    /// The cluster of the listed primary, or that of all others where it is away.
    fn settle(&self, seen: &[Seen]) -> Option<u64> {
        let listed = seen.get(self.primary).and_then(|seen| seen.system());
        let mut all = seen.iter().filter_map(|seen| seen.system());
        listed.or_else(|| {
            let first = all.next()?;
            all.all(|other| other == first).then_some(first)
        })
    }
}

impl Seen {
    const fn system(self) -> Option<u64> {
        match self {
            Self::Away => None,
            Self::Standby { system } | Self::Writable { system, .. } => Some(system),
        }
    }
}

impl fmt::Display for WritesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoPrimaries => {
                "several of its servers take writes, which would part their histories; \
                 stop all but the one that was promoted last"
            }
            Self::FormerPrimary => {
                "the only server that takes writes is a former primary; \
                 start the one that was promoted since, or list only this one"
            }
            Self::Unseen => "its servers were not looked at yet",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: u64 = 7;

    fn writable(timeline: u32) -> Seen {
        Seen::Writable {
            system: OWN,
            timeline,
        }
    }

    const STANDBY: Seen = Seen::Standby { system: OWN };

    #[test]
    fn promotion_is_followed_and_the_former_primary_refused() {
        let (verdict, known) = Known::default().judge(&[writable(1), STANDBY]);
        assert_eq!((verdict, known.primary), (Verdict::Writable, 0));
        // Killed, and then the other promoted.
        let (verdict, known) = known.judge(&[Seen::Away, STANDBY]);
        assert_eq!((verdict, known.primary), (Verdict::Nobody, 0));
        let (verdict, known) = known.judge(&[Seen::Away, writable(2)]);
        assert_eq!((verdict, known.primary), (Verdict::Writable, 1));
        // The former one comes back, and stays alone.
        let (verdict, known) = known.judge(&[writable(1), writable(2)]);
        let two = Verdict::Refused(WritesRefused::TwoPrimaries);
        assert_eq!((verdict, known.primary), (two, 1));
        let (verdict, known) = known.judge(&[writable(1), Seen::Away]);
        let former = Verdict::Refused(WritesRefused::FormerPrimary);
        assert_eq!((verdict, known.primary), (former, 1));
        // It follows now.
        let (verdict, known) = known.judge(&[STANDBY, writable(2)]);
        assert_eq!((verdict, known.primary), (Verdict::Writable, 1));
    }

    #[test]
    fn server_of_another_cluster_is_no_primary() {
        let foreign = Seen::Writable {
            system: OWN + 1,
            timeline: 9,
        };
        let (verdict, known) = Known::default().judge(&[writable(1), foreign]);
        assert_eq!((verdict, known.primary), (Verdict::Writable, 0));
        assert!(known.is_foreign(foreign) && !known.is_foreign(STANDBY));
        let (verdict, known) = known.judge(&[Seen::Away, foreign]);
        assert_eq!((verdict, known.primary), (Verdict::Nobody, 0));
        // Of two clusters without the listed primary, nobody knows which is meant.
        let unknown = Known::default().judge(&[Seen::Away, foreign, STANDBY]);
        assert_eq!(unknown, (Verdict::Nobody, Known::default()));
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let system = prop_oneof![4 => Just(OWN), 1 => Just(OWN + 1)];
        prop_oneof![
            Just(Seen::Away),
            system.clone().prop_map(|system| Seen::Standby { system }),
            (system, 1..5_u32).prop_map(|(system, timeline)| Seen::Writable { system, timeline }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is seen in whatever order.
        #[test]
        fn writes_go_to_the_only_writable_server_of_the_newest_history_or_nowhere(
            looks in proptest::collection::vec(proptest::collection::vec(seen(), 3), 1..20),
        ) {
            let (mut known, mut highest) = (Known::default(), 0);
            for look in looks {
                let (verdict, next) = known.judge(&look);
                let own: Vec<(usize, u32)> = (look.iter().enumerate())
                    .filter_map(|(at, seen)| match *seen {
                        Seen::Writable { system, timeline } if Some(system) == next.system => Some((at, timeline)),
                        _ => None,
                    })
                    .collect();
                let newest = own.iter().map(|(_, timeline)| *timeline).max();
                match verdict {
                    Verdict::Writable => {
                        prop_assert_eq!(own.len(), 1);
                        prop_assert_eq!(own[0].0, next.primary);
                        prop_assert!(own[0].1 >= highest);
                    }
                    Verdict::Nobody => {
                        prop_assert!(own.is_empty());
                        prop_assert_eq!(next.primary, known.primary);
                    }
                    Verdict::Refused(WritesRefused::TwoPrimaries) => prop_assert!(own.len() > 1),
                    Verdict::Refused(WritesRefused::FormerPrimary) => {
                        prop_assert!(newest.unwrap() < highest);
                        prop_assert_eq!(next.primary, known.primary);
                    }
                    Verdict::Refused(WritesRefused::Unseen) => prop_assert!(false, "it was seen"),
                }
                highest = highest.max(newest.unwrap_or(0));
                prop_assert_eq!(next.timeline, highest);
                prop_assert!(known.system.is_none() || known.system == next.system);
                known = next;
            }
        }
    }
}
