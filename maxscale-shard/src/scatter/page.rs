use maxscale_core::keys::Keys;

use super::legs::Shape;
use super::{Cursor, LegError, OrderBy, Scatter, ScatterError, gather};
use crate::error::ShardError;
use crate::sql::Row;

/// What pages are pages of: a name, an order, and the keys that seal its cursors.
///
/// A cursor opens only in the listing that gave it out: of the same name, the
/// same order and the same keys. What else decides which rows there are, such as
/// a filter, belongs into the name where a reader may not carry a place from one
/// to the other.
#[derive(Clone, Debug)]
pub struct Listing {
    pub(super) name: String,
    pub(super) order: OrderBy,
    pub(super) keys: Keys,
}

/// Some rows of a listing, and where it goes on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Page {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` if there was nothing more.
    pub next: Option<Cursor>,
    /// The nodes whose rows are missing; none unless
    /// [`OnFailure::BestEffort`](super::OnFailure::BestEffort) allows it. The next
    /// page begins after this one, so it does not bring those rows either.
    pub failures: Vec<LegError>,
}

// === impl Listing ===

impl Listing {
    /// The listing called `name`, by `order`, whose last columns make it unique.
    pub fn new(name: impl Into<String>, order: OrderBy, keys: Keys) -> Self {
        Self {
            name: name.into(),
            order,
            keys,
        }
    }
}

// === impl Scatter ===

impl Scatter {
    /// The most rows of a page.
    pub const MOST_ROWS: u32 = 1_000;

    /// The next `rows` rows of a listing, from its beginning or from where a
    /// cursor says. One statement per node, each of which sends no more than that.
    ///
    /// A cursor names the last row that was given, and no node: it holds whatever
    /// becomes of the map. A page after it has each row that comes later in the
    /// order, also one that was written since.
    ///
    /// # Errors
    ///
    /// Returns [`ScatterError`]: [`Cursor`](ScatterError::Cursor) for one that was
    /// changed or belongs elsewhere, before anything is asked.
    ///
    /// # Cancellation
    ///
    /// Dropped, it ends every leg.
    pub async fn page(
        self,
        listing: &Listing,
        rows: u32,
        from: Option<&Cursor>,
    ) -> Result<Page, ScatterError> {
        if !(1..=Self::MOST_ROWS).contains(&rows) {
            return Err(ScatterError::PageSize {
                asked: rows,
                most: Self::MOST_ROWS,
            });
        }
        let after = from.map(|cursor| cursor.open(listing)).transpose();
        let after = after.map_err(ScatterError::Cursor)?;
        let output = |_| "leg.*".to_owned();
        let shape = Shape {
            order: Some(&listing.order),
            after: after.as_deref(),
            // One more, to know whether there is more.
            limit: Some(rows + 1),
            ..Shape::of(&output)
        };
        let gathered = gather::gather(&self, &shape).await?;
        let mut placed = Vec::new();
        for leg in gathered.value {
            let first = placed.len();
            for row in leg.rows {
                let values = listing.order.values(&row).map_err(ScatterError::Shard)?;
                placed.push((listing.order.rank(&values), values, row));
            }
            if !placed[first..].is_sorted_by(|a, b| a.0 <= b.0) {
                let database = leg.node.as_str().into();
                return Err(ScatterError::Shard(ShardError::Unordered { database }));
            }
        }
        placed.sort_by(|a, b| a.0.cmp(&b.0));
        if placed.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err(ScatterError::NotUnique);
        }
        let more = placed.len() > rows as usize;
        placed.truncate(rows as usize);
        let last = placed.last().filter(|_| more);
        let next = last.map(|(_, values, _)| Cursor::seal(listing, values));
        Ok(Page {
            next: next.transpose().map_err(ScatterError::NoCursor)?,
            rows: placed.into_iter().map(|(_, _, row)| row).collect(),
            failures: gathered.failures,
        })
    }
}
