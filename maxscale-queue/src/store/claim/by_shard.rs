//! Claims for engines that lock no rows across virtual shards, as Citus: one statement
//! for each shard that has something.

use maxscale_core::Chain;
use maxscale_core::fact::VirtualShard;
use maxscale_shard::{Database, ShardError};

use super::statement::{CLAIM_ON, WAITING};
use super::{Claimed, Wanted, asked, count, take};
use crate::slot;

/// Goes round the shards from the one after that which was served last, and takes of
/// each its share, until there is enough.
pub(super) async fn claim(
    node: &Database,
    wanted: &Wanted<'_>,
) -> Result<Vec<Claimed>, ShardError> {
    let waiting = WAITING.statement().bind(wanted.queue);
    let rows = node.execute_returning(waiting).await?;
    let shards: Result<Vec<_>, _> = rows.iter().map(|row| count(row, "shard_id")).collect();
    let mut shards = shards?;
    shards.retain(|shard| i32::try_from(*shard).is_ok_and(|shard| !wanted.frozen.contains(&shard)));
    let turn = |shard: &u32| {
        let slot = slot::of_shard(VirtualShard::new(*shard));
        (
            (slot + slot::SLOTS - 1 - wanted.served % slot::SLOTS) % slot::SLOTS,
            *shard,
        )
    };
    shards.sort_unstable_by_key(turn);
    let share = wanted.most.div_ceil(shards.len().max(1));
    let mut all = Vec::new();
    let (mut left, mut suspect) = (wanted.most, wanted.suspect);
    for most in [share, wanted.most] {
        for shard in &shards {
            if left == 0 && !suspect {
                break;
            }
            let statement = asked(CLAIM_ON.statement(), wanted, most.min(left), suspect);
            match take(node, statement.bind(*shard), wanted.worker).await {
                Ok(taken) => {
                    let suspects = taken.iter().filter(|job| job.facts.crashes > 0).count();
                    left -= taken.len() - suspects;
                    suspect &= suspects == 0;
                    all.extend(taken);
                }
                Err(error) if all.is_empty() => return Err(error),
                Err(error) => {
                    // What was taken before is the worker's.
                    tracing::warn!(shard, error = %Chain(&error), "cannot claim jobs of a shard");
                    return Ok(all);
                }
            }
        }
    }
    Ok(all)
}
