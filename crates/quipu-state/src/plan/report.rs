//! What the operators of a plan did: for `--explain`, and never part of a result.

use std::time::{Duration, Instant};

use quipu_store::ScanReport;

/// One operator, and those it read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub operator: &'static str,
    /// How it was set up.
    pub details: String,
    /// Rows that it was given. Of a scan, those that it looked at.
    pub rows_in: u64,
    /// Rows that it gave.
    pub rows_out: u64,
    /// Blocks that were read, or parts of them; what lies in memory counts as a block.
    pub blocks_scanned: u64,
    /// Blocks that were not.
    pub blocks_skipped: u64,
    /// Pages that were read.
    pub pages_read: u64,
    /// Pages that were not.
    pub pages_skipped: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that there are.
    pub bytes_total: u64,
    /// How long it took. Operators of shards work at the same time: the longest counts.
    pub micros: u64,
    /// The operators that it read from.
    pub inputs: Vec<Report>,
}

impl Report {
    pub(crate) fn new(operator: &'static str, details: String) -> Self {
        Self { operator, details, ..Self::default() }
    }

    pub(crate) fn rows(mut self, rows_in: u64, rows_out: u64) -> Self {
        (self.rows_in, self.rows_out) = (rows_in, rows_out);
        self
    }

    pub(crate) fn took(mut self, time: Duration) -> Self {
        self.micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self
    }

    pub(crate) fn since(self, start: Instant) -> Self {
        self.took(start.elapsed())
    }

    pub(crate) fn over(mut self, input: Report) -> Self {
        self.inputs.push(input);
        self
    }

    pub(crate) fn scanned(mut self, scan: &ScanReport) -> Self {
        (self.blocks_scanned, self.blocks_skipped) = (scan.segments_scanned, scan.segments_skipped);
        (self.pages_read, self.pages_skipped) = (scan.pages_read, scan.pages_skipped);
        (self.bytes_read, self.bytes_total) = (scan.bytes_read, scan.bytes_total);
        self.rows(scan.rows_in, scan.rows_out)
    }

    /// The operator with that name, here or below.
    pub fn find(&self, operator: &str) -> Option<&Report> {
        if self.operator == operator {
            return Some(self);
        }
        self.inputs.iter().find_map(|input| input.find(operator))
    }

    /// The plan for people, one line for each operator, those that it read from below it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.put_lines(0, &mut lines);
        lines
    }

    fn put_lines(&self, depth: usize, lines: &mut Vec<String>) {
        let mut line = format!("{}{}", "  ".repeat(depth), self.operator);
        if !self.details.is_empty() {
            line += &format!(" ({})", self.details);
        }
        line += &format!(": rows {} -> {}", self.rows_in, self.rows_out);
        if self.blocks_scanned + self.blocks_skipped > 0 {
            line += &format!(
                ", blocks {} scanned {} skipped, pages {} read {} skipped, bytes {} of {}",
                self.blocks_scanned,
                self.blocks_skipped,
                self.pages_read,
                self.pages_skipped,
                self.bytes_read,
                self.bytes_total,
            );
        }
        line += &format!(", {:.1} ms", self.micros as f64 / 1e3);
        lines.push(line);
        self.inputs.iter().for_each(|input| input.put_lines(depth + 1, lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_operator() {
        let scan = ScanReport {
            segments_scanned: 1,
            segments_skipped: 99,
            pages_read: 2,
            pages_skipped: 3,
            bytes_read: 10,
            bytes_total: 1000,
            rows_in: 7,
            rows_out: 5,
        };
        let below = Report::new("SegmentScan", "3 shards".to_owned()).scanned(&scan);
        let report = Report::new("Merge", String::new())
            .rows(5, 4)
            .took(Duration::from_micros(1500))
            .over(below);
        assert_eq!(
            report.lines(),
            [
                "Merge: rows 5 -> 4, 1.5 ms",
                "  SegmentScan (3 shards): rows 7 -> 5, blocks 1 scanned 99 skipped, \
                 pages 2 read 3 skipped, bytes 10 of 1000, 0.0 ms",
            ]
        );
        assert_eq!(report.find("SegmentScan").map(|one| one.blocks_skipped), Some(99));
        assert_eq!(report.find("Projection"), None);
    }
}
