//! A CSV file as rows of cells, each with its line in the file.

use super::distinct::distinct;
use anyhow::{Context, Result, bail, ensure};
use csv::StringRecord;
use std::collections::HashSet;
use std::path::Path;

/// A header and the rows below it.
pub struct Table {
    /// The file, in quotation marks.
    pub file: String,
    pub names: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row; it has as many cells as the header.
pub struct Row {
    /// The line that it begins on, counted from 1.
    pub line: usize,
    cells: StringRecord,
}

impl Row {
    /// A cell without the blanks around it.
    pub fn cell(&self, column: usize) -> &str {
        self.cells.get(column).unwrap_or("").trim()
    }
}

impl Table {
    /// Reads a file: UTF-8, separated by commas, names in its first line. Lines before that which begin with # are comments.
    ///
    /// # Errors
    /// A file that cannot be read or is none of this, with the line and what to do.
    pub fn read(path: &Path) -> Result<Table> {
        let file = format!("\"{}\"", path.display());
        let bytes = wgpu_lstm::files::read(path)?;
        let text = decode(&bytes, &file)?;
        let lines = Lines::new(text);
        let start = header_at(text);
        let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&text.as_bytes()[start..]);
        let mut records: Vec<(usize, StringRecord)> = Vec::new();
        for record in reader.into_records() {
            let record = record.with_context(|| format!("cannot read {file}"))?;
            let at = start + record.position().map_or(0, |position| position.byte()) as usize;
            // A record's position can be the end of the line before it, or of empty ones.
            records.push((at + text[at..].len() - text[at..].trim_start_matches(['\r', '\n']).len(), record));
        }
        let mut records = records.into_iter().peekable();
        let Some((at, header)) = records.next() else { bail!("{file} has no header line") };
        let names: Vec<String> = header.iter().map(|name| name.trim().into()).collect();
        ensure!(
            !(names.len() <= 2 && names[0].to_ascii_lowercase().starts_with("sep=")),
            "{file}, line {}: \"{}\" is for spreadsheets; remove the line",
            lines.of(at),
            text[at..].lines().next().unwrap_or_default()
        );
        if let Some((first, _)) = records.peek() {
            let first = text[*first..].lines().next().unwrap_or_default();
            let separates =
                |&separator: &char| names.len() == 1 && names[0].contains(separator) && first.contains(separator);
            if let Some(separator) = [';', '\t', '|'].into_iter().find(separates) {
                let name = if separator == '\t' { "tabs".into() } else { format!("'{separator}'") };
                bail!("{file} is separated by {name}; use ',' between cells, and a point for decimals");
            }
        }
        let mut table = Table { file, names, rows: Vec::new() };
        let mut end = lines.of(at); // the last line of the row before
        while let Some((at, cells)) = records.next() {
            let line = lines.of(at);
            let next = records.peek().map_or(text.len(), |&(next, _)| next);
            let raw = text[at..next].trim_end_matches(['\r', '\n']);
            let (file, names) = (&table.file, &table.names);
            ensure!(
                records.peek().is_some() || raw.matches('"').count() % 2 == 0 || !raw.contains(['\r', '\n']),
                "{file}, line {line}: a quotation mark opens here and is never closed"
            );
            let blank = cells.iter().all(|cell| cell.trim().is_empty()) && cells.len() == 1;
            if blank && names.len() > 1 {
                continue;
            }
            // With one column, an empty line is an empty cell.
            ensure!(
                names.len() > 1 || line == end + 1,
                "{file}, line {}: the line is empty; fill gaps in the data first",
                end + 1
            );
            ensure!(
                cells.len() == names.len(),
                "{file}, line {line}: {} cells, but the header has {}; cells with a comma inside must stand in quotation marks, \
                 and numbers have neither a decimal comma nor one between thousands",
                cells.len(),
                names.len()
            );
            end = lines.of(at + raw.len());
            table.rows.push(Row { line, cells });
        }
        ensure!(!table.rows.is_empty(), "{} has no rows below its header", table.file);
        Ok(table)
    }

    /// The column of that name.
    ///
    /// # Errors
    /// None of that name, or several.
    pub fn find(&self, wanted: &str) -> Result<usize> {
        let Table { file, names, .. } = self;
        let mut found = names.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => return Ok(at),
            (Some(_), Some(_)) => bail!("{file} has two columns \"{wanted}\"; give each its own name"),
            (None, _) => {}
        }
        if names.iter().any(|name| name.parse::<f64>().is_ok()) {
            bail!(
                "{file} has no column \"{wanted}\": its first line, {}, are no names; put a line of names in front",
                names.join(",")
            );
        }
        bail!("{file} has no column \"{wanted}\"; its columns are {}", names.join(", "))
    }

    /// Place of a cell, for messages.
    pub fn place(&self, row: usize, column: usize) -> String {
        format!("{}, line {}, column \"{}\"", self.file, self.rows[row].line, self.names[column])
    }

    /// Count of different numbers of a column as it is written, and of those that are different as f64.
    pub fn distinct(&self, column: usize) -> (usize, usize) {
        let cells = || self.rows.iter().map(|row| row.cell(column));
        let written: HashSet<String> = cells().map(significant).collect();
        (written.len(), distinct(cells().filter_map(|cell| cell.parse().ok())))
    }

    /// A cell as a number.
    ///
    /// # Errors
    /// An empty cell; what is no number within ±10¹⁵⁰, with the cause.
    pub fn number(&self, row: usize, column: usize) -> Result<f64, String> {
        // Squares of errors, and sums of them, stay far within f64.
        const LARGEST: f64 = 1e150;
        let cell = self.rows[row].cell(column);
        let place = || self.place(row, column);
        match cell.parse::<f64>() {
            _ if cell.is_empty() => Err(format!("{}: the cell is empty; fill gaps in the data first", place())),
            Ok(value) if value.abs() <= LARGEST => Ok(value),
            Ok(value) if cell.contains(|c: char| c.is_ascii_digit()) => {
                Err(format!("{}: {cell} is too large; numbers up to {LARGEST:e} are read{}", place(), {
                    if value < 0.0 { ", of either sign" } else { "" }
                }))
            }
            Ok(_) => Err(format!("{}: \"{cell}\" is not a finite number", place())),
            Err(_) => Err(format!("{}: \"{cell}\" is not a finite number{}", place(), cause(cell))),
        }
    }
}

/// A number's sign, its digits without zeros around them, and the power of ten that they are times: equal for equal numbers.
fn significant(cell: &str) -> String {
    let (number, power) = cell.split_once(['e', 'E']).unwrap_or((cell, "0"));
    let sign = if number.starts_with('-') { "-" } else { "" };
    let (whole, fraction) =
        number.trim_start_matches(['+', '-']).split_once('.').unwrap_or((number.trim_start_matches(['+', '-']), ""));
    let digits = [whole, fraction].concat();
    let trimmed = digits.trim_end_matches('0');
    // A power too long for i64 makes the number 0 or infinite.
    let power =
        power.parse::<i64>().unwrap_or(i64::MIN / 2) - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
    match trimmed.trim_start_matches('0') {
        "" => "0".into(),
        digits => format!("{sign}{digits}e{power}"),
    }
}

/// Why a cell with digits is no number, for the common ways of writing one.
fn cause(cell: &str) -> &'static str {
    let has = |other: &dyn Fn(char) -> bool| cell.contains(other);
    if !has(&|c| c.is_ascii_digit()) {
        ""
    } else if has(&|c| c == ',') {
        "; write it with a point for decimals, and nothing between thousands"
    } else if has(&|c| "$€£¥₹%".contains(c)) {
        "; write the number alone, without a currency or per cent sign"
    } else if has(&|c| c == '−' || c == '–') {
        "; write the minus sign as '-'"
    } else if has(&|c| c.is_whitespace() || c == '\'' || c == '_') {
        "; write it with nothing between its digits"
    } else {
        ""
    }
}

/// The text of a file, without a byte order mark.
fn decode<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str> {
    let starts = |mark: &[u8]| bytes.starts_with(mark);
    if starts(&[0xff, 0xfe, 0, 0]) || starts(&[0, 0, 0xfe, 0xff]) {
        bail!("{file} is UTF-32; save it as UTF-8");
    }
    if starts(&[0xff, 0xfe]) || starts(&[0xfe, 0xff]) {
        bail!("{file} is UTF-16; save it as UTF-8");
    }
    ensure!(!starts(b"PK\x03\x04"), "{file} is a zip archive, as workbooks (.xlsx, .ods) are; export it as CSV");
    ensure!(!starts(&[0x1f, 0x8b]), "{file} is compressed by gzip; unpack it first");
    if bytes.contains(&0) {
        // Latin letters in UTF-16 have every other byte 0.
        let zeros = bytes.iter().filter(|&&byte| byte == 0).count();
        ensure!(zeros * 3 < bytes.len(), "{file} is UTF-16; save it as UTF-8");
        bail!("{file} is no text: it holds bytes of 0");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_start_matches('\u{feff}')),
        Err(error) => {
            let at = error.valid_up_to();
            let before = String::from_utf8_lossy(&bytes[..at]);
            bail!(
                "{file}, line {}: byte 0x{:02X} is no UTF-8; the file may be in cp1252 or Latin-1: save it as UTF-8",
                Lines::new(&before).of(before.len()),
                bytes[at]
            )
        }
    }
}

/// Start of the header: after comments and empty lines.
fn header_at(text: &str) -> usize {
    let lines = text.split_inclusive(['\n', '\r']);
    lines.take_while(|line| line.starts_with('#') || line.trim().is_empty()).map(str::len).sum()
}

/// Starts of the lines.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        let bytes = text.as_bytes();
        // "\r\n" ends one line, and so does either alone.
        let ends = |&at: &usize| bytes[at] == b'\n' || (bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
        Lines((0..bytes.len()).filter(ends).map(|at| at + 1).collect())
    }

    /// The line of a byte, counted from 1.
    fn of(&self, at: usize) -> usize {
        1 + self.0.partition_point(|&begin| begin <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Table> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), bytes)?;
        Table::read(file.path())
    }

    #[track_caller]
    fn refused(bytes: &[u8], parts: &[&str]) {
        let error = match read(bytes) {
            Err(error) => format!("{error:#}"),
            Ok(table) => table.find("y").expect_err("must be refused").to_string(),
        };
        for part in parts {
            assert!(error.contains(part), "\"{part}\" is missing in: {error}");
        }
    }

    #[test]
    fn lines_are_those_of_an_editor() {
        let lines =
            |text: &str| -> Vec<usize> { read(text.as_bytes()).unwrap().rows.iter().map(|row| row.line).collect() };
        assert_eq!(lines("a,b\n1,2\n3,4\n"), [2, 3]);
        assert_eq!(lines("a,b\r\n1,2\r\n3,4\r\n"), [2, 3]);
        assert_eq!(lines("a,b\r1,2\r3,4\r"), [2, 3]);
        assert_eq!(lines("# c\r\n\r\na,b\r\n\r\n1,2\r\n  \r\n3,4"), [5, 7]);
        assert_eq!(lines("a,b\r\n\"1\r\n\r\n\",2\r\n3,4\r\n"), [2, 5]);
        assert_eq!(lines("\u{feff}a,b\r\n1,2\r\n"), [2]);
        let table = read("\u{feff}# exported\n#\n\"a\" ,b\n1,\"2\"\"\"\n".as_bytes()).unwrap();
        assert_eq!((table.names[0].as_str(), table.rows[0].cell(1)), ("a", "2\""));
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_its_cause() {
        let utf16: Vec<u8> = "date,y\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        refused(&[&[0xff, 0xfe], utf16.as_slice()].concat(), &["UTF-16", "UTF-8"]);
        refused(&utf16, &["UTF-16", "UTF-8"]);
        refused(b"date,y\r\n1,caf\xe9\r\n", &["line 2", "0xE9", "cp1252", "UTF-8"]);
        refused(b"PK\x03\x04\x14\0", &["workbook"]);
        refused(b"\x1f\x8b\x08\0", &["gzip"]);
        refused(b"date,y\n1,\0\n", &["bytes of 0"]);
        refused(b"", &["no header"]);
        refused(b"date,y\n", &["no rows"]);
        refused(b"date;y\n1;2\n", &["separated by ';'", "','"]);
        refused(b"date;y\n1;2,5\n", &["separated by ';'"]);
        refused(b"date,y\n1,2,5\n", &["line 2: 3 cells, but the header has 2", "decimal comma"]);
        refused(b"date\ty\n1\t2\n", &["separated by tabs"]);
        refused(b"date|y\n1|2\n", &["separated by '|'"]);
        refused(b"sep=;\ndate;y\n", &["line 1", "sep=;"]);
        refused(b"2015-01-01,3\n2015-01-02,4\n", &["no column \"y\"", "a line of names"]);
        refused(b"y,y\n1,2\n", &["two columns \"y\""]);
        refused(b"date,y\r\n1,2\r\n1,2,3\r\n", &["line 3", "3 cells", "the header has 2"]);
        refused(b"y\r\n1\r\n\r\n2\r\n", &["line 3", "empty"]);
        refused(b"date,y\n1,2\n1,\"2\n1,3\n", &["line 3", "never closed"]);
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_a_table_or_refused(text in "(#x\n)?(\"?[a,y;0-9]{1,3}\"?[,;\r\n\"#.eé-]{1,2}){0,12}") {
            if let Ok(table) = read(text.as_bytes()) {
                for (row, column) in (0..table.rows.len()).flat_map(|row| (0..table.names.len()).map(move |at| (row, at))) {
                    let number = table.number(row, column);
                    proptest::prop_assert_eq!(number.is_ok(), table.rows[row].cell(column).parse::<f64>().is_ok_and(|v| v.abs() < 1e150));
                }
                let (written, kept) = table.distinct(0);
                proptest::prop_assert!(kept <= written);
            }
        }
    }

    #[test]
    fn numbers_that_f64_does_not_tell_apart_are_counted() {
        let distinct = |cells: &[&str]| read(format!("y\n{}\n", cells.join("\n")).as_bytes()).unwrap().distinct(0);
        assert_eq!(distinct(&["1", "1.0", "+1.00e0", "01", "10e-1", "0.1e1"]), (1, 1));
        assert_eq!(distinct(&["0", "-0.0", "0e5", "-1", "1", "10"]), (4, 4));
        assert_eq!(distinct(&["1700000000000000001", "1700000000000000002", "1700000000000000003"]), (3, 1));
        assert_eq!(distinct(&["0.1", "0.1000000000000000055"]), (2, 1));
        assert_eq!(distinct(&["1e-400", "2e-400"]), (2, 1));
    }

    #[test]
    fn numbers_are_read_in_f64_or_refused_with_their_cause() {
        let number = |cell: &str| read(format!("y,a\n\"{cell}\",1\n").as_bytes()).unwrap().number(0, 0);
        for (cell, expected) in
            [("1000000050103", 1_000_000_050_103.0), (" 5e39 ", 5e39), ("-.5", -0.5), ("1e-400", 0.0)]
        {
            assert_eq!(number(cell).unwrap(), expected);
        }
        for (cell, part) in [
            ("", "empty"),
            ("NaN", "not a finite number"),
            ("inf", "not a finite number"),
            ("1e999", "too large"),
            ("-1e151", "too large"),
            ("2,002.07", "point for decimals"),
            ("50,104", "point for decimals"),
            ("$50.10", "currency"),
            ("12 %", "per cent"),
            ("−5", "minus"),
            ("1 000", "nothing between"),
            ("rain", "\"rain\" is not a finite number"),
        ] {
            let error = number(cell).unwrap_err();
            assert!(error.contains(part) && error.contains("line 2, column \"y\""), "{cell}: {error}");
        }
    }
}
