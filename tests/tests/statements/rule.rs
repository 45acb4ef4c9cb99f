//! What a statement that touches sharded tables has to say.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Assignment, BinaryOperator, Expr, FromTable, Insert, JoinConstraint, JoinOperator,
    OnConflictAction, OnInsert, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    TableObject, TableWithJoins, UpdateTableFromKind, Value, Visit, Visitor,
};

use crate::schema::{Schema, last};
use crate::source::EVERY_ROW;

pub(crate) struct Rule<'s> {
    pub(crate) schema: &'s Schema,
}

/// Tables that are read together, and under which conditions.
#[derive(Default)]
struct Block {
    /// Each table, and what it is called here.
    tables: Vec<(String, String)>,
    /// Both sides of each equality that has to hold.
    equal: Vec<(Expr, Expr)>,
    /// Both sides of each comparison by order that has to hold.
    bounded: Vec<(Expr, Expr)>,
}

/// What a statement has in it, at any depth.
#[derive(Default)]
struct Parts {
    blocks: Vec<Block>,
    /// Names of common table expressions.
    named: Vec<String>,
    wrong: Vec<String>,
}

// === impl Rule ===

impl Rule<'_> {
    /// Checks a statement; `index` is what serves it if it is node-wide.
    pub(crate) fn hold(&self, statement: &Statement, index: Option<&str>) -> Result<(), String> {
        let mut parts = Parts::default();
        let _ = statement.visit(&mut parts);
        if let Some(wrong) = parts.wrong.pop() {
            return Err(wrong);
        }
        let mut missing = Vec::new();
        for block in &parts.blocks {
            for (table, called) in &block.tables {
                let system = table.starts_with("pg_") || table == "sqlite_master";
                if !self.schema.knows(table) && !system && !parts.named.contains(table) {
                    return Err(format!("no migration makes {table}"));
                }
                if self.schema.is_sharded(table) && !self.names_shard(block, called, 0) {
                    missing.push(table.as_str());
                }
            }
        }
        match (missing.first(), index) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err("is marked as node-wide, and names shard_id".to_owned()),
            (Some(table), None) => Err(format!(
                "names no shard_id of {table} by equality, and is not marked as node-wide"
            )),
            (Some(table), Some(index)) => self.served(&parts, table, index),
        }
    }

    /// Whether `called` is of one virtual shard that the caller names.
    fn names_shard(&self, block: &Block, called: &str, depth: usize) -> bool {
        let sharded = block
            .tables
            .iter()
            .filter(|(table, _)| self.schema.is_sharded(table));
        let alone = sharded.count() == 1;
        let owner = |expr: &Expr| shard_id_of(expr).map(|owner| owner.unwrap_or_default());
        let ours = |owner: &str| owner == called || (owner.is_empty() && alone);
        let both_ways = block.equal.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
        both_ways
            .filter(|(left, _)| owner(left).is_some_and(|owner| ours(&owner)))
            .any(|(_, right)| match owner(right) {
                None => is_parameter(right),
                // By way of another table, and not in a circle.
                Some(other) => {
                    let known = block.tables.iter().find(|(_, called)| *called == other);
                    depth < block.tables.len()
                        && known.is_some_and(|(table, _)| self.schema.is_sharded(table))
                        && self.names_shard(block, &other, depth + 1)
                }
            })
    }

    /// Whether the index that a node-wide statement names is one that serves it.
    fn served(&self, parts: &Parts, table: &str, index: &str) -> Result<(), String> {
        if index == EVERY_ROW {
            return Ok(());
        }
        let by_key = index == "the primary key";
        let columns = if by_key {
            self.schema.key(table)
        } else {
            let columns = self.schema.index(table, index);
            &columns.ok_or_else(|| format!("{table} has no index {index}"))?[..1]
        };
        let compared = |column: &String| {
            // A walk along an index, as a sweep of the oldest, is served by it too; a key
            // is looked up.
            let mut sides = parts.blocks.iter().flat_map(|block| {
                let bounded = block.bounded.iter().filter(|_| !by_key);
                block.equal.iter().chain(bounded)
            });
            sides.any(|(a, b)| {
                [a, b]
                    .into_iter()
                    .any(|side| column_of(side) == Some(column))
            })
        };
        match columns.iter().find(|column| !compared(column)) {
            None => Ok(()),
            Some(column) => Err(format!(
                "is said to be served by {index}, but compares no {column}"
            )),
        }
    }
}

fn column_of(expr: &Expr) -> Option<&String> {
    match expr {
        Expr::Identifier(name) => Some(&name.value),
        Expr::CompoundIdentifier(path) => path.last().map(|name| &name.value),
        _ => None,
    }
}

/// Whose `shard_id` it is, if it is one; `None` inside where it does not say.
fn shard_id_of(expr: &Expr) -> Option<Option<String>> {
    match expr {
        Expr::Identifier(name) if name.value == "shard_id" => Some(None),
        Expr::CompoundIdentifier(path) => match path.as_slice() {
            [owner, name] if name.value == "shard_id" => Some(Some(owner.value.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn is_shards(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_shards(inner),
        Expr::Value(value) => {
            matches!(&value.value, Value::Placeholder(name) if name == "$shards")
        }
        _ => false,
    }
}

fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

// === impl Block ===

impl Block {
    fn of(tables: &[TableWithJoins], selection: Option<&Expr>) -> Self {
        let mut block = Self::default();
        for joined in tables {
            block.table(&joined.relation);
            for join in &joined.joins {
                block.table(&join.relation);
                if let JoinOperator::Join(JoinConstraint::On(on))
                | JoinOperator::Inner(JoinConstraint::On(on))
                | JoinOperator::Left(JoinConstraint::On(on))
                | JoinOperator::LeftOuter(JoinConstraint::On(on)) = &join.join_operator
                {
                    block.condition(on);
                }
            }
        }
        if let Some(selection) = selection {
            block.condition(selection);
        }
        block
    }

    fn table(&mut self, factor: &TableFactor) {
        // A function is no table, and a subquery is a block of its own.
        if let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
        {
            let table = last(name);
            let called = alias.as_ref().map(|alias| alias.name.value.clone());
            self.tables.push((table.clone(), called.unwrap_or(table)));
        }
    }

    /// Only what holds for every row counts, so nothing under OR or NOT.
    fn condition(&mut self, expr: &Expr) {
        match expr {
            Expr::Nested(inner) => self.condition(inner),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                self.condition(left);
                self.condition(right);
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => {
                self.equal.push(((**left).clone(), (**right).clone()));
            }
            Expr::BinaryOp {
                left,
                op:
                    BinaryOperator::Lt
                    | BinaryOperator::LtEq
                    | BinaryOperator::Gt
                    | BinaryOperator::GtEq,
                right,
            } => {
                self.bounded.push(((**left).clone(), (**right).clone()));
            }
            // The leg of a scatter: the router names the shards.
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } if is_shards(right) => self.equal.push(((**left).clone(), (**right).clone())),
            _ => {}
        }
    }
}

// === impl Parts ===

impl Parts {
    fn insert(&mut self, insert: &Insert) -> Result<(), String> {
        let TableObject::TableName(table) = &insert.table else {
            return Err("an INSERT into no table".to_owned());
        };
        let table = last(table);
        let at = insert
            .columns
            .iter()
            .position(|column| last(column) == "shard_id");
        let mut block = Block {
            tables: vec![(table.clone(), table.clone())],
            equal: Vec::new(),
            bounded: Vec::new(),
        };
        // What is selected instead is of no one shard.
        let rows = match insert.source.as_ref().map(|source| &*source.body) {
            Some(SetExpr::Values(values)) => values.rows.as_slice(),
            _ => &[],
        };
        let name = Expr::Identifier("shard_id".into());
        // Rows that a function lists out of a parameter have what it says.
        if let Some(SetExpr::Select(select)) = insert.source.as_ref().map(|source| &*source.body)
            && Block::of(&select.from, None).tables.is_empty()
        {
            for (column, given) in insert.columns.iter().zip(&select.projection) {
                if let SelectItem::UnnamedExpr(given) = given {
                    let column = Expr::Identifier(last(column).as_str().into());
                    block.equal.push((column, given.clone()));
                }
            }
        }
        // All rows of one parameter: that is an equality.
        if let Some(at) = at
            && let Some(first) = rows.first().and_then(|row| row.content.get(at))
            && rows.iter().all(|row| row.content.get(at) == Some(first))
        {
            block.equal.push((name, first.clone()));
        }
        self.blocks.push(block);
        if let Some(OnInsert::OnConflict(conflict)) = &insert.on
            && let OnConflictAction::DoUpdate(update) = &conflict.action
        {
            return keeps_shard(&update.assignments);
        }
        Ok(())
    }
}

/// A row that changed its `shard_id` would lie where nobody looks.
fn keeps_shard(assignments: &[Assignment]) -> Result<(), String> {
    let set = assignments
        .iter()
        .map(|assignment| assignment.target.to_string());
    match set.into_iter().find(|target| target.ends_with("shard_id")) {
        Some(_) => Err("changes shard_id".to_owned()),
        None => Ok(()),
    }
}

impl Visitor for Parts {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named
            .extend(with.map(|table| table.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.blocks
            .push(Block::of(&select.from, select.selection.as_ref()));
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        let checked = match statement {
            Statement::Query(_) => Ok(()),
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => {
                let mut tables = vec![update.table.clone()];
                if let Some(
                    UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from),
                ) = &update.from
                {
                    tables.extend(from.iter().cloned());
                }
                self.blocks
                    .push(Block::of(&tables, update.selection.as_ref()));
                keeps_shard(&update.assignments)
            }
            Statement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) =
                    &delete.from;
                let mut tables = from.clone();
                tables.extend(delete.using.iter().flatten().cloned());
                self.blocks
                    .push(Block::of(&tables, delete.selection.as_ref()));
                Ok(())
            }
            other => Err(format!("a statement that this test does not know: {other}")),
        };
        self.wrong.extend(checked.err());
        ControlFlow::Continue(())
    }
}
