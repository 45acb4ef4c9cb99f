use super::legs::Shape;
use super::order::check_name;
use super::{Gathered, KeyType, Scatter, ScatterError, gather};
use crate::error::ShardError;
use crate::sql::{Engine, Row, Value};

/// A figure over all rows, made of those of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Aggregate {
    kind: Kind,
    column: String,
    of: KeyType,
}

/// The value of an [`Aggregate`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Aggregated {
    /// How many rows.
    Count(i64),
    /// The sum; `None` of no value.
    Sum(Option<i64>),
    /// The average; `None` of no value.
    Avg(Option<Average>),
    /// The least value; null of none.
    Min(Value),
    /// The greatest value; null of none.
    Max(Value),
}

/// An average, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average {
    sum: i128,
    count: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

/// What is known of an aggregate so far.
#[derive(Default)]
struct Partial {
    sum: i128,
    count: i64,
    extreme: Option<Value>,
}

// === impl Aggregate ===

impl Aggregate {
    /// The number of rows.
    pub const fn count() -> Self {
        Self {
            kind: Kind::Count,
            column: String::new(),
            of: KeyType::I64,
        }
    }

    /// The sum of `column`, which holds integers. One that is no 64-bit integer
    /// is [`ScatterError::Overflow`]; how the rows are shared among nodes makes
    /// no difference.
    pub fn sum(column: impl Into<String>) -> Self {
        Self::over(Kind::Sum, column, KeyType::I64)
    }

    /// The average of `column`, which holds integers.
    pub fn avg(column: impl Into<String>) -> Self {
        Self::over(Kind::Avg, column, KeyType::I64)
    }

    /// The least value of `column`: [`KeyType::I64`] or [`KeyType::Text`].
    pub fn min(column: impl Into<String>, of: KeyType) -> Self {
        Self::over(Kind::Min, column, of)
    }

    /// The greatest value of `column`: [`KeyType::I64`] or [`KeyType::Text`].
    pub fn max(column: impl Into<String>, of: KeyType) -> Self {
        Self::over(Kind::Max, column, of)
    }

    fn over(kind: Kind, column: impl Into<String>, of: KeyType) -> Self {
        let column = column.into();
        Self { kind, column, of }
    }

    fn check(&self) -> Result<(), ScatterError> {
        if self.kind != Kind::Count {
            check_name(&self.column)?;
        }
        if !matches!(self.of, KeyType::I64 | KeyType::Text) {
            let why = "the least and the greatest are had of integers and text";
            return Err(ScatterError::Text { why });
        }
        Ok(())
    }

    /// The columns that tell of the rows of one node; `at` makes their names unique.
    fn output(&self, engine: Engine, at: usize) -> String {
        let column = &self.column;
        let extreme = |name: &str| match (self.of, engine) {
            (KeyType::Text, Engine::Postgres) => {
                format!(r#"{name}(leg."{column}"::text COLLATE "C") AS extreme_{at}"#)
            }
            (KeyType::Text, Engine::Sqlite) => {
                format!(r#"{name}(leg."{column}" COLLATE BINARY) AS extreme_{at}"#)
            }
            _ => format!(r#"{name}(leg."{column}") AS extreme_{at}"#),
        };
        match self.kind {
            Kind::Count => format!("count(*) AS count_{at}"),
            Kind::Min => extreme("min"),
            Kind::Max => extreme("max"),
            // In two halves, of which neither overflows. On PostgreSQL only
            // integers can be shifted; SQLite would make integers of anything.
            Kind::Sum | Kind::Avg => {
                let (value, odd) = match engine {
                    Engine::Postgres => {
                        (format!(r#"(leg."{column}" + 0::bigint)"#), "0".to_owned())
                    }
                    Engine::Sqlite => (
                        format!(r#"leg."{column}""#),
                        format!(r#"sum(typeof(leg."{column}") NOT IN ('integer', 'null'))"#),
                    ),
                };
                format!(
                    r#"count(leg."{column}") AS count_{at},
                    CAST(sum({value} >> 32) AS bigint) AS high_{at},
                    CAST(sum({value} & 4294967295) AS bigint) AS low_{at},
                    CAST(coalesce({odd}, 0) AS bigint) AS odd_{at}"#
                )
            }
        }
    }

    fn add(&self, row: &Row, at: usize, partial: &mut Partial) -> Result<(), ScatterError> {
        let number = |name: &str| -> Result<Option<i64>, ScatterError> {
            let read = row.get(&format!("{name}_{at}"));
            read.map_err(ScatterError::Shard)
        };
        let column = format!("extreme_{at}");
        match self.kind {
            Kind::Count => partial.count += number("count")?.unwrap_or(0),
            Kind::Sum | Kind::Avg => {
                if number("odd")? != Some(0) {
                    let column = self.column.clone();
                    return Err(ScatterError::NotIntegers { column });
                }
                partial.count += number("count")?.unwrap_or(0);
                let (high, low) = (number("high")?, number("low")?);
                partial.sum += i128::from(high.unwrap_or(0)) << 32;
                partial.sum += i128::from(low.unwrap_or(0));
            }
            Kind::Min | Kind::Max => {
                let value = match self.of {
                    KeyType::Text => row
                        .get::<Option<String>>(&column)
                        .map(|v| v.map(Into::into)),
                    _ => row.get::<Option<i64>>(&column).map(|v| v.map(Into::into)),
                };
                let value: Option<Value> = value.map_err(ScatterError::Shard)?;
                let better = match (&value, &partial.extreme) {
                    (Some(_), None) => true,
                    (Some(new), Some(old)) => self.is_better(new, old),
                    (None, _) => false,
                };
                if better {
                    partial.extreme = value;
                }
            }
        }
        Ok(())
    }

    fn is_better(&self, new: &Value, old: &Value) -> bool {
        let less = match (new, old) {
            (Value::I64(new), Value::I64(old)) => new < old,
            (Value::Text(new), Value::Text(old)) => new < old,
            _ => false,
        };
        less == (self.kind == Kind::Min)
    }

    fn total(&self, partial: Partial) -> Result<Aggregated, ScatterError> {
        let Partial { sum, count, .. } = partial;
        let null = match self.of {
            KeyType::Text => Value::Text(None),
            _ => Value::I64(None),
        };
        let extreme = partial.extreme.unwrap_or(null);
        Ok(match self.kind {
            Kind::Count => Aggregated::Count(count),
            Kind::Min => Aggregated::Min(extreme),
            Kind::Max => Aggregated::Max(extreme),
            Kind::Avg => Aggregated::Avg((count > 0).then_some(Average { sum, count })),
            Kind::Sum if count == 0 => Aggregated::Sum(None),
            Kind::Sum => {
                let column = || self.column.clone();
                let sum = i64::try_from(sum);
                Aggregated::Sum(Some(
                    sum.map_err(|_| ScatterError::Overflow { column: column() })?,
                ))
            }
        })
    }
}

// === impl Average ===

impl Average {
    /// The sum of all values.
    pub const fn sum(self) -> i128 {
        self.sum
    }

    /// How many values there are, nulls not counted.
    pub const fn count(self) -> i64 {
        self.count
    }

    /// The average, as near as this type has it.
    #[expect(clippy::cast_precision_loss, reason = "the nearest is what is wanted")]
    pub const fn value(self) -> f64 {
        // The whole part apart, so that only the rest is rounded.
        let count = self.count as i128;
        (self.sum / count) as f64 + (self.sum % count) as f64 / self.count as f64
    }
}

// === impl Scatter ===

impl Scatter {
    /// Figures over the rows of all nodes, in the order of `aggregates`. The rows
    /// stay where they are: each node sends one.
    ///
    /// # Errors
    ///
    /// Returns [`ScatterError`].
    ///
    /// # Cancellation
    ///
    /// Dropped, it ends every leg.
    pub async fn aggregate(
        self,
        aggregates: &[Aggregate],
    ) -> Result<Gathered<Vec<Aggregated>>, ScatterError> {
        for aggregate in aggregates {
            aggregate.check()?;
        }
        let output = |engine| {
            let columns = aggregates.iter().enumerate();
            let columns: Vec<String> = columns
                .map(|(at, aggregate)| aggregate.output(engine, at))
                .collect();
            // Of nothing at all there is still a row.
            if columns.is_empty() {
                "1".to_owned()
            } else {
                columns.join(", ")
            }
        };
        let gathered = gather::gather(&self, &Shape::of(&output)).await?;
        let mut partials: Vec<Partial> = aggregates.iter().map(|_| Partial::default()).collect();
        for leg in &gathered.value {
            let row = leg.rows.first().ok_or_else(|| {
                let database = leg.node.as_str().into();
                ScatterError::Shard(ShardError::NoRow { database })
            })?;
            for ((at, aggregate), partial) in aggregates.iter().enumerate().zip(&mut partials) {
                aggregate.add(row, at, partial)?;
            }
        }
        let totals = aggregates.iter().zip(partials);
        let totals = totals.map(|(aggregate, partial)| aggregate.total(partial));
        Ok(Gathered {
            value: totals.collect::<Result<_, _>>()?,
            failures: gathered.failures,
        })
    }
}
