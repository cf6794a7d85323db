//! Reading rows, one at a time, with the position after each; nothing is held but the row.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::FileFormat;

/// The longest row read.
const ROW_BYTES_MAX: u64 = 64 << 20;

/// A place between two rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Rows before it.
    pub(super) row: u64,
    /// Bytes before it.
    pub(super) byte: u64,
    /// Lines before it.
    pub(super) line: u64,
}

/// One row, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its number, counted from 0.
    pub(super) number: u64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    line: u64,
    reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.reason)
    }
}

/// A file whose reader may take so many bytes more: a row without end (a quote that is never closed)
/// must not be gathered in memory.
pub(super) struct Limited {
    file: File,
    left: Rc<Cell<u64>>,
}

impl io::Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        let room = buffer.len().min(room);
        if room == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a row does not end; perhaps a quote was never closed",
            ));
        }
        let read = self.file.read(&mut buffer[..room])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

impl io::Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A file being read.
pub(super) struct Input {
    rows: Rows,
    position: Position,
    bytes_total: u64,
    row_bytes_max: u64,
}

enum Rows {
    Csv {
        reader: Box<csv::Reader<Limited>>,
        /// What the file may still give before the row has to end.
        left: Rc<Cell<u64>>,
        names: csv::StringRecord,
        record: csv::StringRecord,
    },
    Jsonl {
        reader: BufReader<File>,
        line: Vec<u8>,
    },
}

impl Input {
    /// Opens `path` at `position`, which an earlier [`Input::position`] gave.
    pub(super) fn open(
        path: &Path,
        format: FileFormat,
        position: Position,
    ) -> anyhow::Result<Self> {
        let cannot = || format!("{} cannot be read", path.display());
        let file = File::open(path).with_context(cannot)?;
        let bytes_total = file.metadata().with_context(cannot)?.len();
        let rows = match format {
            FileFormat::Csv => open_csv(file, position).with_context(cannot)?,
            FileFormat::Jsonl => {
                let mut reader = BufReader::new(file);
                reader
                    .seek(SeekFrom::Start(position.byte))
                    .with_context(cannot)?;
                Rows::Jsonl {
                    reader,
                    line: Vec::new(),
                }
            }
        };
        Ok(Self {
            rows,
            position,
            bytes_total,
            row_bytes_max: ROW_BYTES_MAX,
        })
    }

    /// The file's size in bytes.
    pub(super) fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// The place after the last row.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// The next row, with the field `key` as its key; `None` at the end. An error means that the
    /// file itself cannot be read on, not that a row is bad.
    pub(super) fn next(&mut self, key: Option<&str>) -> io::Result<Option<Result<Row, Invalid>>> {
        let first_line = self.position.line + 1;
        let (line, read) = match &mut self.rows {
            Rows::Csv {
                reader,
                left,
                names,
                record,
            } => {
                left.set(self.row_bytes_max);
                let read = next_csv(reader, names, record, key)?;
                let place = reader.position();
                self.position.byte = place.byte();
                self.position.line = place.line().saturating_sub(1);
                (first_line, read)
            }
            Rows::Jsonl { reader, line } => {
                let read = next_line(reader, line, self.row_bytes_max, &mut self.position)?;
                let read = read.map(|fits| fits.and_then(|()| json_row(line.trim_ascii(), key)));
                (self.position.line, read)
            }
        };
        let Some(read) = read else {
            return Ok(None);
        };
        let number = self.position.row;
        self.position.row += 1;
        Ok(Some(match read {
            Ok((key, value)) => Ok(Row { number, key, value }),
            Err(reason) => Err(Invalid { line, reason }),
        }))
    }
}

/// Reads the next line that is not blank; a line that is too long is passed over, whole.
fn next_line(
    reader: &mut BufReader<File>,
    line: &mut Vec<u8>,
    bytes_max: u64,
    position: &mut Position,
) -> io::Result<Option<Result<(), String>>> {
    loop {
        line.clear();
        let read = reader.by_ref().take(bytes_max).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(None);
        }
        let cut = read as u64 == bytes_max && !line.ends_with(b"\n");
        let rest = if cut { reader.skip_until(b'\n')? } else { 0 };
        position.byte += (read + rest) as u64;
        position.line += 1;
        if rest > 0 {
            return Ok(Some(Err(format!("longer than {bytes_max} bytes"))));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(Ok(())));
        }
    }
}

fn open_csv(file: File, position: Position) -> anyhow::Result<Rows> {
    let left = Rc::new(Cell::new(ROW_BYTES_MAX));
    let limited = Limited {
        file,
        left: Rc::clone(&left),
    };
    let mut reader = csv::ReaderBuilder::new().from_reader(limited);
    let names = reader.headers()?.clone();
    if position.byte > 0 {
        let mut place = csv::Position::new();
        place
            .set_byte(position.byte)
            .set_line(position.line + 1)
            .set_record(position.row + 1);
        reader.seek(place)?;
    }
    Ok(Rows::Csv {
        reader: Box::new(reader),
        left,
        names,
        record: csv::StringRecord::new(),
    })
}

type Read = Result<(Option<Vec<u8>>, Vec<u8>), String>;

fn next_csv(
    reader: &mut csv::Reader<Limited>,
    names: &csv::StringRecord,
    record: &mut csv::StringRecord,
    key: Option<&str>,
) -> io::Result<Option<Read>> {
    Ok(match reader.read_record(record) {
        Ok(false) => None,
        Ok(true) => {
            let mut object = Map::new();
            for (name, field) in names.iter().zip(record.iter()) {
                object.insert(name.to_owned(), Value::String(field.to_owned()));
            }
            let found = match key {
                None => None,
                Some(key) => match names.iter().position(|name| name == key) {
                    Some(index) => record.get(index).map(|field| field.as_bytes().to_vec()),
                    None => return Ok(Some(Err(format!("there is no column {key:?}")))),
                },
            };
            Some(Ok((found, Value::Object(object).to_string().into_bytes())))
        }
        Err(error) if error.is_io_error() => return Err(error.into()),
        Err(error) => Some(Err(error.to_string())),
    })
}

fn json_row(content: &[u8], key: Option<&str>) -> Read {
    let Some(key) = key else {
        // Checked, and sent as it is.
        serde_json::from_slice::<serde::de::IgnoredAny>(content)
            .map_err(|error| error.to_string())?;
        return Ok((None, content.to_vec()));
    };
    let document: Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let found = key
        .split('.')
        .try_fold(&document, |value, name| value.get(name));
    let bytes = match found {
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(Value::Null) | None => return Err(format!("the field {key:?} is missing")),
        Some(other) => other.to_string().into_bytes(),
    };
    Ok((Some(bytes), content.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn values(input: &mut Input, key: Option<&str>) -> Vec<String> {
        let text = |row: Result<Row, Invalid>| match row {
            Ok(row) => format!(
                "{}:{}:{}",
                row.number,
                row.key
                    .map(|key| String::from_utf8(key).unwrap())
                    .unwrap_or_default(),
                String::from_utf8(row.value).unwrap()
            ),
            Err(invalid) => invalid.to_string(),
        };
        std::iter::from_fn(|| input.next(key).unwrap())
            .map(text)
            .collect()
    }

    #[test]
    fn csv_rows_become_objects_and_reading_goes_on_from_any_row() {
        let file = file("id,name\n1,\"Ann\nLee\"\n2,Bob\n3\n4,Eve\n");
        let open = |position| Input::open(file.path(), FileFormat::Csv, position).unwrap();
        let mut input = open(Position::default());
        let all = values(&mut input, Some("id"));
        assert_eq!(all[0], "0:1:{\"id\":\"1\",\"name\":\"Ann\\nLee\"}");
        assert_eq!(all[1], "1:2:{\"id\":\"2\",\"name\":\"Bob\"}");
        assert!(all[2].contains("line"), "{}", all[2]);
        assert_eq!(all[3], "3:4:{\"id\":\"4\",\"name\":\"Eve\"}");
        let mut input = open(Position::default());
        for expected in 1..4 {
            assert!(input.next(None).unwrap().is_some());
            let rest = values(&mut open(input.position()), Some("id"));
            assert_eq!(rest, all[expected..], "from row {expected}");
        }
    }

    #[test]
    fn json_lines_are_checked_and_keep_their_bytes() {
        let file = file("{\"a\": {\"b\": 7}}\n\n{\"a\":\nnot json\n{\"a\":{\"b\":\"x\"}}");
        let open = |position| Input::open(file.path(), FileFormat::Jsonl, position).unwrap();
        let mut input = open(Position::default());
        let all = values(&mut input, Some("a.b"));
        assert_eq!(all[0], "0:7:{\"a\": {\"b\": 7}}");
        assert!(all[1].starts_with("line 3: "), "{}", all[1]);
        assert!(all[2].starts_with("line 4: "), "{}", all[2]);
        assert_eq!(all[3], "3:x:{\"a\":{\"b\":\"x\"}}");
        let mut input = open(Position::default());
        assert!(input.next(None).unwrap().is_some());
        assert_eq!(values(&mut open(input.position()), Some("a.b")), all[1..]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_whole() {
        let long = format!("\"{}\"", "1 ".repeat(40));
        let file = file(&format!("1\n{long}\n2\n{long}"));
        let mut input = Input::open(file.path(), FileFormat::Jsonl, Position::default()).unwrap();
        input.row_bytes_max = 20;
        assert_eq!(
            values(&mut input, None),
            [
                "0::1",
                "line 2: longer than 20 bytes",
                "2::2",
                "line 4: longer than 20 bytes"
            ]
        );
        assert_eq!(input.position().byte, input.bytes_total());
    }

    #[test]
    fn a_csv_row_without_end_ends_the_reading_before_it_fills_the_memory() {
        let rows = "x".repeat(30_000);
        let file = file(&format!("id,name\n1,Ann\n2,\"never closed{rows}\n3,Eve\n"));
        let mut input = Input::open(file.path(), FileFormat::Csv, Position::default()).unwrap();
        input.row_bytes_max = 20_000;
        assert!(matches!(input.next(None), Ok(Some(Ok(_)))));
        let refused = input.next(None).unwrap_err();
        assert!(
            refused.to_string().contains("a row does not end"),
            "{refused}"
        );
        // A row may be as long as the limit, however many rows there are.
        input = Input::open(file.path(), FileFormat::Csv, Position::default()).unwrap();
        input.row_bytes_max = 40_000;
        assert_eq!(values(&mut input, None).len(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_read_on_is_no_bad_row() {
        let folder = tempfile::tempdir().unwrap();
        let mut input = Input::open(folder.path(), FileFormat::Jsonl, Position::default()).unwrap();
        assert!(input.next(None).is_err());
    }
}
