//! Records as rows, one column for each field that any record has, and as CSV.

use std::collections::BTreeSet;

use super::{Record, Records};
use crate::json::{self, Style, Value};
use crate::text::Text;

/// Columns that every table has, before and after those of the fields.
const BEFORE: [&str; 3] = ["record_id", "form", "created_by"];
const AFTER: [&str; 2] = ["attachments", "notes"];

/// An output could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Where it is written to failed.
    #[error("the output could not be written: {0}")]
    Io(#[from] std::io::Error),
    /// CSV could not be written.
    #[error("the CSV could not be written: {0}")]
    Csv(#[from] csv::Error),
}

/// Records as rows. Only the names of the columns are held in memory.
#[derive(Debug)]
pub struct Table<'a> {
    records: &'a Records,
    fields: Vec<&'a Text>,
}

impl<'a> Table<'a> {
    /// A table of all records.
    pub fn new(records: &'a Records) -> Self {
        let fields: BTreeSet<&Text> =
            records.iter().flat_map(|(_, record)| record.fields.keys()).collect();
        Self { records, fields: fields.into_iter().collect() }
    }

    /// Names of the columns: a field that has the name of another column is `fields.NAME`.
    pub fn columns(&self) -> Vec<String> {
        let fixed = |name: &str| BEFORE.contains(&name) || AFTER.contains(&name);
        let field = |field: &&Text| {
            let name = field.to_string();
            if fixed(&name) { format!("fields.{name}") } else { name }
        };
        let fields = self.fields.iter().map(field);
        let (before, after) = (BEFORE.map(str::to_owned), AFTER.map(str::to_owned));
        before.into_iter().chain(fields).chain(after).collect()
    }

    /// Rows by record id. Text stands as it is; other values as JSON; nothing where a record has no such field.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.records.iter().map(|(id, record)| self.row(id, record))
    }

    fn row(&self, id: &Text, record: &Record) -> Vec<String> {
        let cell = |value: Option<&Value>| value.map(to_cell).unwrap_or_default();
        let field =
            |name: &&Text| cell(record.fields.get(*name).and_then(|e| e.payload.get("value")));
        let mut row = vec![id.to_string(), cell(record.form()), cell(record.created_by())];
        row.extend(self.fields.iter().map(field));
        row.push(to_cell(&Value::List(record.attachments().collect())));
        row.push(to_cell(&Value::List(record.notes().cloned().collect())));
        row
    }
}

fn to_cell(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::List(items) if items.is_empty() => String::new(),
        // JSON as it is written here is ASCII.
        other => String::from_utf8(json::to_bytes(other, Style::Canonical)).unwrap_or_default(),
    }
}

/// Writes all records as CSV with a line of column names, row by row.
pub fn write_csv(records: &Records, out: impl std::io::Write) -> Result<(), OutputError> {
    let table = Table::new(records);
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(table.columns())?;
    for row in table.rows() {
        writer.write_record(row)?;
    }
    writer.flush()?;
    Ok(())
}
