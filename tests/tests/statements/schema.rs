//! What tables there are, and how their rows are named.

use std::collections::BTreeMap;

use sqlparser::ast::{
    AlterTableOperation, ColumnDef, ColumnOption, CreateTable, IndexColumn, ObjectName, Statement,
    TableConstraint,
};

/// Tables of which there is one row, or one set of rows, per database: the
/// catalog's, who a node is, the ledgers of migrations, a region's shadow of a
/// directory, which workers of the queue are alive and what is paused.
const APART: &[&str] = &[
    "ms_fleet_node",
    "ms_keyspace",
    "ms_map",
    "ms_memory",
    "ms_migration",
    "ms_node",
    "ms_queue_pause",
    "ms_rollout",
    "ms_rollout_step",
    "ms_schema",
    "ms_shadow",
    "ms_shadow_progress",
    "ms_shadow_pull",
    "ms_worker",
];

#[derive(Debug, Default)]
pub(crate) struct Schema {
    tables: BTreeMap<String, Table>,
}

#[derive(Debug, Default)]
struct Table {
    sharded: bool,
    key: Vec<String>,
    /// By name, with what they begin with.
    indexes: BTreeMap<String, Vec<String>>,
}

pub(crate) fn last(name: &ObjectName) -> String {
    let part = name.0.last().and_then(|part| part.as_ident());
    part.map(|ident| ident.value.clone()).unwrap_or_default()
}

fn columns(listed: &[IndexColumn]) -> Vec<String> {
    listed
        .iter()
        .map(|column| column.column.expr.to_string())
        .collect()
}

// === impl Schema ===

impl Schema {
    pub(crate) fn is_sharded(&self, table: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.sharded)
    }

    pub(crate) fn knows(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    pub(crate) fn without_key(&self) -> impl Iterator<Item = &str> {
        let names = self.tables.iter().filter(|(_, table)| table.key.is_empty());
        names.map(|(name, _)| name.as_str())
    }

    pub(crate) fn key(&self, table: &str) -> &[String] {
        self.tables.get(table).map_or(&[], |table| &table.key)
    }

    /// The columns of an index of `table`.
    pub(crate) fn index(&self, table: &str, name: &str) -> Option<&[String]> {
        self.tables.get(table)?.indexes.get(name).map(Vec::as_slice)
    }

    /// Takes a statement of a migration, unless it breaks the rule.
    pub(crate) fn define(&mut self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::CreateTable(table) => self.create(table),
            Statement::CreateIndex(index) => {
                let (name, listed) = (last(&index.table_name), columns(&index.columns));
                let table = self.tables.get_mut(&name).ok_or("an index of no table")?;
                if index.unique {
                    table.unique(&listed)?;
                }
                let own = index.name.as_ref().ok_or("an index without a name")?;
                table.indexes.insert(last(own), listed);
                Ok(())
            }
            Statement::AlterTable(alter) => {
                let name = last(&alter.name);
                let table = self.tables.get_mut(&name).ok_or("no such table")?;
                for operation in &alter.operations {
                    match operation {
                        AlterTableOperation::AddColumn { column_def, .. } => {
                            table.column(column_def)?
                        }
                        AlterTableOperation::AddConstraint { constraint, .. } => {
                            table.constraint(constraint)?;
                        }
                        other => return Err(format!("what does {other} to keys?")),
                    }
                }
                Ok(())
            }
            // Fills what the same migration adds, in all rows that are there.
            Statement::Update(_) => Ok(()),
            // The same for a table that it adds: each row beside the one it is made from.
            Statement::Insert(insert) => {
                let first = insert.columns.first().map(ToString::to_string);
                match first.as_deref() {
                    Some("shard_id") => Ok(()),
                    _ => Err(format!("which shard has what this fills? {insert}")),
                }
            }
            other => Err(format!("a migration that this test does not know: {other}")),
        }
    }

    fn create(&mut self, created: &CreateTable) -> Result<(), String> {
        let name = last(&created.name);
        let shard_id = created
            .columns
            .iter()
            .find(|column| column.name.value == "shard_id");
        let mut table = Table {
            sharded: shard_id.is_some(),
            ..Table::default()
        };
        if let Some(shard_id) = shard_id {
            let not_null = |option: &ColumnOption| matches!(option, ColumnOption::NotNull);
            let integer = shard_id
                .data_type
                .to_string()
                .eq_ignore_ascii_case("integer");
            if !integer
                || !shard_id
                    .options
                    .iter()
                    .any(|option| not_null(&option.option))
            {
                return Err(format!("shard_id of {name} is not integer NOT NULL"));
            }
        } else if !APART.contains(&name.as_str()) {
            return Err(format!("{name} has no shard_id, and is none of {APART:?}"));
        }
        for column in &created.columns {
            table.column(column)?;
        }
        for constraint in &created.constraints {
            table.constraint(constraint)?;
        }
        self.tables.insert(name, table);
        Ok(())
    }
}

// === impl Table ===

impl Table {
    fn column(&mut self, column: &ColumnDef) -> Result<(), String> {
        let name = [column.name.value.clone()];
        for option in &column.options {
            match &option.option {
                ColumnOption::PrimaryKey(_) => {
                    self.unique(&name)?;
                    self.key = name.to_vec();
                }
                ColumnOption::Unique(_) => self.unique(&name)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn constraint(&mut self, constraint: &TableConstraint) -> Result<(), String> {
        match constraint {
            TableConstraint::PrimaryKey(key) => {
                self.key = columns(&key.columns);
                self.unique(&columns(&key.columns))
            }
            TableConstraint::Unique(unique) => self.unique(&columns(&unique.columns)),
            TableConstraint::Check(_) => Ok(()),
            other => Err(format!(
                "a constraint that this test does not know: {other}"
            )),
        }
    }

    fn unique(&self, columns: &[String]) -> Result<(), String> {
        if self.sharded && columns.first().is_none_or(|first| first != "shard_id") {
            return Err(format!(
                "unique by {}, which does not begin with shard_id",
                columns.join(", ")
            ));
        }
        Ok(())
    }
}
