//! A trace as numbered lines, plain or gzipped, with limits.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::TraceError;

/// A longer line is no trace: the longest known lines have 200 bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most lines of one trace, comments included. With one entry a line it
/// keeps a trace below 2 GB of memory.
pub(super) const LINES_MAX: u64 = 100_000_000;

const BUFFER_BYTES: usize = 128 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Gives out the lines of a trace one by one, and knows where it is.
pub(super) struct Lines<'a> {
    name: &'a str,
    reader: Box<dyn BufRead + 'a>,
    line: Vec<u8>,
    number: u64,
    number_max: u64,
}

impl<'a> Lines<'a> {
    /// Looks at the first two bytes to tell gzip from plain text.
    pub(super) fn new(name: &'a str, mut source: impl Read + 'a) -> Result<Self, TraceError> {
        let mut magic = Vec::new();
        source
            .by_ref()
            .take(2)
            .read_to_end(&mut magic)
            .map_err(|source| TraceError::Unreadable {
                name: name.into(),
                line: 0,
                source,
            })?;
        let zipped = magic == GZIP_MAGIC;
        let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(source));
        let reader: Box<dyn BufRead + 'a> = if zipped {
            Box::new(BufReader::with_capacity(
                BUFFER_BYTES,
                MultiGzDecoder::new(whole),
            ))
        } else {
            Box::new(whole)
        };
        Ok(Self {
            name,
            reader,
            line: Vec::new(),
            number: 0,
            number_max: LINES_MAX,
        })
    }

    /// Goes to the next line that is not blank; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            if !self.advance_raw()? {
                return Ok(false);
            }
            if !self.current().trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line in hand without its end.
    pub(super) fn current(&self) -> &[u8] {
        &self.line
    }

    /// An error about the line in hand.
    pub(super) fn error(&self, reason: impl Into<String>) -> TraceError {
        TraceError::Malformed {
            name: self.name.into(),
            line: self.number.max(1),
            reason: reason.into(),
        }
    }

    fn advance_raw(&mut self) -> Result<bool, TraceError> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let mut limited = (&mut self.reader).take(limit);
        if let Err(source) = limited.read_until(b'\n', &mut self.line) {
            return Err(self.unreadable(source));
        }
        if self.line.is_empty() {
            return Ok(false);
        }
        self.number += 1;
        if self.line.len() > LINE_BYTES_MAX {
            return Err(self.error(format!(
                "the line is longer than {LINE_BYTES_MAX} bytes; is this a trace?"
            )));
        }
        if self.number > self.number_max {
            return Err(self.error(format!(
                "the trace has more than {} lines; cut it into parts",
                self.number_max
            )));
        }
        self.strip();
        Ok(true)
    }

    fn strip(&mut self) {
        if self.line.ends_with(b"\n") {
            self.line.pop();
        }
        if self.line.ends_with(b"\r") {
            self.line.pop();
        }
        if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
    }

    fn unreadable(&self, source: io::Error) -> TraceError {
        let (name, line) = (self.name.to_owned(), self.number);
        match source.kind() {
            // Plain files end where they end: only gzip knows that more should follow.
            io::ErrorKind::UnexpectedEof => TraceError::CutOff { name, line },
            _ => TraceError::Unreadable { name, line, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    fn zip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<String>, TraceError> {
        let mut lines = Lines::new("test", bytes)?;
        let mut all = Vec::new();
        while lines.advance()? {
            all.push(String::from_utf8_lossy(lines.current()).into_owned());
        }
        Ok(all)
    }

    #[test]
    fn ends_marks_and_blanks_do_not_matter() {
        for text in [
            "a,b\n1,2\n",
            "a,b\r\n1,2\r\n",
            "\u{feff}a,b\n1,2",
            "a,b\n\n \r\n1,2\n\n\n",
        ] {
            assert_eq!(
                read_all(text.as_bytes()).expect(text),
                ["a,b", "1,2"],
                "{text:?}"
            );
            assert_eq!(
                read_all(&zip(text.as_bytes())).expect(text),
                ["a,b", "1,2"],
                "{text:?}"
            );
        }
        assert_eq!(read_all(b"").expect("empty"), [""; 0]);
        assert_eq!(read_all(b"x").expect("one byte"), ["x"]);
        let members = [zip(b"a\n"), zip(b"b\n")].concat();
        assert_eq!(read_all(&members).expect("two gzip members"), ["a", "b"]);
    }

    #[test]
    fn a_cut_off_gzip_file_says_so_wherever_it_is_cut() {
        let rows: Vec<String> = (0..500)
            .map(|line| format!("{line},{}", line * 7_919 % 1_000))
            .collect();
        let text = rows.join(
            "
",
        );
        let whole = zip(text.as_bytes());
        for end in 2..whole.len() {
            let error = read_all(&whole[..end]).expect_err("cut off");
            assert!(
                matches!(error, TraceError::CutOff { .. }),
                "cut at {end}: {error}"
            );
        }
        assert_eq!(read_all(&whole).expect("whole").len(), 500);
    }

    #[test]
    fn damaged_gzip_data_is_an_error() {
        let mut bytes = zip(b"t_s,count\n0,1\n10,2\n");
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        assert!(matches!(
            read_all(&bytes),
            Err(TraceError::Unreadable { .. })
        ));
    }

    #[test]
    fn endless_lines_stop_at_the_limit() {
        for bytes in [
            vec![b'1'; LINE_BYTES_MAX * 4],
            zip(&vec![b'1'; LINE_BYTES_MAX * 400]),
        ] {
            let mut lines = Lines::new("test", bytes.as_slice()).expect("readable");
            let error = lines.advance().expect_err("too long").to_string();
            assert!(
                error.starts_with("test:1: the line is longer than 65536 bytes"),
                "{error}"
            );
            assert!(
                lines.line.capacity() <= LINE_BYTES_MAX * 4,
                "memory stays small"
            );
        }
        let longest = [vec![b'1'; LINE_BYTES_MAX - 1], vec![b'\n']].concat();
        assert_eq!(read_all(&longest).expect("just fits").len(), 1);
    }

    #[test]
    fn too_many_lines_stop_at_the_limit() {
        let mut lines = Lines::new("test", b"1\n2\n3\n".as_slice()).expect("readable");
        lines.number_max = 2;
        assert!(lines.advance().expect("first") && lines.advance().expect("second"));
        let error = lines.advance().expect_err("third").to_string();
        assert_eq!(
            error,
            "test:3: the trace has more than 2 lines; cut it into parts"
        );
    }
}
