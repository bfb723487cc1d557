//! A trace as numbered lines, plain or gzipped, with limits.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};
use std::ops::Range;

use flate2::read::MultiGzDecoder;

use super::{Skipped, TraceError};

/// A longer line is no trace: the longest known lines have 200 bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most lines of one trace, comments included. With one entry a line it
/// keeps a trace below 2 GB of memory.
pub(super) const LINES_MAX: u64 = 100_000_000;

/// Room for the longest line and three times as much again, so that little is
/// moved, and it stays in the second cache.
const BUFFER_BYTES: usize = 4 * LINE_BYTES_MAX;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Of a line that is passed over because it is too long, so much is read to
/// find its end: beyond it there is none.
const PASSED_OVER_BYTES_MAX: u64 = 1 << 28;

/// How files begin that hold something else, what that is, and what to do.
const FOREIGN: [(&[u8], &str, &str); 8] = [
    (&GZIP_MAGIC, "packed with gzip twice", "unpack it once"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", REPACK),
    (b"\xfd7zXZ\0", "packed with xz", REPACK),
    (b"BZh", "packed with bzip2", REPACK),
    (b"PK\x03\x04", "a zip archive", REPACK),
    (b"\xff\xfe", "text in UTF-16", "write it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "write it as UTF-8"),
    (
        b"SQLite format 3\0",
        "a store of windlass",
        "make a trace of it with `windlass trace convert STORE.db OUT.rate.csv`",
    ),
];
const REPACK: &str = "unpack it, or pack it with gzip";

/// Gives out the lines of a trace one by one, and knows where it is.
pub(super) struct Lines<'a> {
    name: Cow<'a, str>,
    source: Box<dyn Read + 'a>,
    // Lines are not copied: they are looked at where they were read to.
    buffer: Vec<u8>,
    // Where in `buffer` the line in hand lies.
    line: Range<usize>,
    // What was read and not given out yet.
    rest: Range<usize>,
    number: u64,
    number_max: u64,
    // What went wrong when it was read ahead.
    failed: Option<io::Error>,
    skipped: Skipped,
    // How many more lines may be wrong.
    forgiving: u64,
}

impl<'a> Lines<'a> {
    /// Looks at the first two bytes to tell gzip from plain text.
    pub(super) fn new(
        name: &'a str,
        source: impl Read + 'a,
        skip_bad: u64,
    ) -> Result<Self, TraceError> {
        Self::named(Cow::Borrowed(name), source, skip_bad)
    }

    /// The same with a name of its own.
    pub(super) fn owned(
        name: &str,
        source: impl Read + 'a,
        skip_bad: u64,
    ) -> Result<Self, TraceError> {
        Self::named(Cow::Owned(name.to_owned()), source, skip_bad)
    }

    fn named(
        name: Cow<'a, str>,
        mut source: impl Read + 'a,
        skip_bad: u64,
    ) -> Result<Self, TraceError> {
        let mut magic = Vec::new();
        source
            .by_ref()
            .take(2)
            .read_to_end(&mut magic)
            .map_err(|source| TraceError::Unreadable {
                name: name.clone().into_owned(),
                line: 0,
                source,
            })?;
        let zipped = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(source);
        let source: Box<dyn Read + 'a> = if zipped {
            Box::new(MultiGzDecoder::new(whole))
        } else {
            Box::new(whole)
        };
        Ok(Self {
            name,
            source,
            buffer: vec![0; BUFFER_BYTES],
            line: 0..0,
            rest: 0..0,
            number: 0,
            number_max: LINES_MAX,
            failed: None,
            skipped: Skipped::default(),
            forgiving: skip_bad,
        })
    }

    /// What the file begins with: at least so many bytes, if it has them. To be
    /// called before anything is read.
    pub(super) fn beginning(&mut self, bytes: usize) -> Result<&[u8], TraceError> {
        while self.rest.len() < bytes && self.failed.is_none() {
            match self.read_behind() {
                Ok(0) => break,
                Ok(_) => {}
                // Told when the lines before it were read.
                Err(error) => self.failed = Some(error),
            }
        }
        let begins = self.ahead();
        let foreign = FOREIGN
            .iter()
            .find(|(magic, _, _)| begins.starts_with(magic));
        if let Some((_, what, advice)) = foreign {
            return Err(self.wrong("first bytes", format!("this is {what}; {advice}")));
        }
        Ok(self.ahead())
    }

    /// Goes to the next line that is not blank; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            if !self.advance_raw()? {
                return Ok(false);
            }
            if !self.current().trim_ascii_start().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line in hand without its end.
    pub(super) fn current(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// An error about the line in hand.
    pub(super) fn error(&self, reason: impl Into<String>) -> TraceError {
        TraceError::Malformed {
            name: self.name.clone().into_owned(),
            line: self.number.max(1),
            reason: reason.into(),
        }
    }

    /// Passes over something wrong, or says that it is too much.
    pub(super) fn refuse(&mut self, error: TraceError) -> Result<(), TraceError> {
        if self.forgiving == 0 {
            return Err(error);
        }
        self.forgiving -= 1;
        self.skipped.push(error.to_string());
        Ok(())
    }

    /// How many wrong lines were passed over so far.
    pub(super) const fn skipped_count(&self) -> u64 {
        self.skipped.count
    }

    /// All that was passed over.
    pub(super) fn into_skipped(self) -> Skipped {
        self.skipped
    }

    /// What was passed over so far.
    pub(super) const fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// An error at a place in a document.
    pub(super) fn wrong(&self, place: impl Into<String>, reason: impl Into<String>) -> TraceError {
        TraceError::Wrong {
            name: self.name.clone().into_owned(),
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// Reads on into `into` until it is full or the source ends, and says how
    /// much came: for formats that have no lines.
    pub(super) fn read_raw(&mut self, into: &mut [u8]) -> Result<usize, TraceError> {
        let mut filled = 0;
        while filled < into.len() {
            if self.rest.is_empty() && self.read_more()? == 0 {
                break;
            }
            let count = self.rest.len().min(into.len() - filled);
            let from = self.rest.start..self.rest.start + count;
            into[filled..filled + count].copy_from_slice(&self.buffer[from]);
            self.rest.start += count;
            filled += count;
        }
        Ok(filled)
    }

    /// Reads on to the end; `None` if that is further than `bytes_max`.
    pub(super) fn read_all(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, TraceError> {
        const PIECE: usize = 64 * 1024;
        let mut all = Vec::new();
        loop {
            let from = all.len();
            all.resize(from + PIECE, 0);
            let count = self.read_raw(&mut all[from..])?;
            all.truncate(from + count);
            if all.len() > bytes_max {
                return Ok(None);
            }
            if count < PIECE {
                return Ok(Some(all));
            }
        }
    }

    /// What was read and not given out yet.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.buffer[self.rest.clone()]
    }

    /// How many more lines may come before there are too many.
    pub(super) const fn lines_left(&self) -> u64 {
        self.number_max.saturating_sub(self.number)
    }

    /// Lets there be any number of lines: for who does not keep them.
    pub(super) fn allow_any_number(&mut self) {
        self.number_max = u64::MAX;
    }

    /// Goes past so many whole lines of [`Lines::ahead`], so many bytes long.
    pub(super) fn pass(&mut self, lines: u64, bytes: usize) {
        self.number += lines;
        self.rest.start += bytes;
    }

    fn advance_raw(&mut self) -> Result<bool, TraceError> {
        let Some(mut length) = self.find_end()? else {
            return Ok(false);
        };
        self.number += 1;
        while length > LINE_BYTES_MAX {
            self.refuse(self.error(format!(
                "the line is longer than {LINE_BYTES_MAX} bytes; is this a trace?"
            )))?;
            self.pass_over_line()?;
            length = match self.find_end()? {
                Some(length) => length,
                None => return Ok(false),
            };
            self.number += 1;
        }
        if self.number > self.number_max {
            return Err(self.error(format!(
                "the trace has more than {} lines; cut it into parts",
                self.number_max
            )));
        }
        self.line = self.rest.start..self.rest.start + length;
        self.rest.start = self.line.end;
        self.strip();
        Ok(true)
    }

    /// How long the next line is, its end included: at least as much as is
    /// allowed if it is longer. `None` if there is no line any more.
    fn find_end(&mut self) -> Result<Option<usize>, TraceError> {
        let mut searched = 0;
        loop {
            let unseen = &self.buffer[self.rest.start + searched..self.rest.end];
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(searched + at + 1));
            }
            searched = self.rest.len();
            if searched > LINE_BYTES_MAX {
                return Ok(Some(searched));
            }
            if self.read_more()? == 0 {
                return Ok((searched > 0).then_some(searched));
            }
        }
    }

    /// Goes past the end of a line that is too long.
    fn pass_over_line(&mut self) -> Result<(), TraceError> {
        let mut passed: u64 = 0;
        loop {
            if let Some(at) = self.ahead().iter().position(|byte| *byte == b'\n') {
                self.rest.start += at + 1;
                return Ok(());
            }
            passed += self.rest.len() as u64;
            self.rest.start = self.rest.end;
            if passed > PASSED_OVER_BYTES_MAX {
                return Err(self.error(format!(
                    "the line does not end within {PASSED_OVER_BYTES_MAX} bytes; this is no trace"
                )));
            }
            if self.read_more()? == 0 {
                return Ok(());
            }
        }
    }

    /// Reads behind what is there, and says how much came.
    fn read_more(&mut self) -> Result<usize, TraceError> {
        let read = match self.failed.take() {
            Some(error) => Err(error),
            None => self.read_behind(),
        };
        read.map_err(|source| self.unreadable(source))
    }

    fn read_behind(&mut self) -> io::Result<usize> {
        if self.rest.is_empty() || self.rest.end == self.buffer.len() {
            self.buffer.copy_within(self.rest.clone(), 0);
            self.rest = 0..self.rest.len();
        }
        loop {
            match self.source.read(&mut self.buffer[self.rest.end..]) {
                Ok(count) => {
                    self.rest.end += count;
                    return Ok(count);
                }
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(source),
            }
        }
    }

    fn strip(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.current().last() == Some(&end) {
                self.line.end -= 1;
            }
        }
        if self.number == 1 && self.current().starts_with(BYTE_ORDER_MARK) {
            self.line.start += BYTE_ORDER_MARK.len();
        }
    }

    fn unreadable(&self, source: io::Error) -> TraceError {
        let (name, line) = (self.name.clone().into_owned(), self.number);
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
        let mut lines = Lines::new("test", bytes, 0)?;
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

    /// Gives one byte at a time, with an interruption before each.
    struct Trickle<'a>(&'a [u8], bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = into.len().min(1);
            self.0.read(&mut into[..count])
        }
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_come() {
        let rows: Vec<String> = (0..40_u32)
            .map(|row| "x".repeat(row as usize * 90))
            .collect();
        let text = rows.join("\n");
        let expected = rows[1..].to_vec();
        for bytes in [text.as_bytes(), &zip(text.as_bytes())] {
            assert_eq!(read_all(bytes).expect("at once"), expected);
            let mut lines = Lines::new("test", Trickle(bytes, false), 0).expect("readable");
            for row in &expected {
                assert!(lines.advance().expect("a line"));
                assert_eq!(lines.current(), row.as_bytes());
            }
            assert!(!lines.advance().expect("the end"));
        }
        // Longest lines, so that they straddle the end of the buffer.
        let long = vec!["y".repeat(LINE_BYTES_MAX - 7); 9];
        assert_eq!(read_all(long.join("\n").as_bytes()).expect("long"), long);
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
            let mut lines = Lines::new("test", bytes.as_slice(), 0).expect("readable");
            let error = lines.advance().expect_err("too long").to_string();
            assert!(
                error.starts_with("test:1: the line is longer than 65536 bytes"),
                "{error}"
            );
            assert_eq!(lines.buffer.len(), BUFFER_BYTES, "memory stays small");
        }
        let longest = [vec![b'1'; LINE_BYTES_MAX - 1], vec![b'\n']].concat();
        assert_eq!(read_all(&longest).expect("just fits").len(), 1);
    }

    #[test]
    fn too_many_lines_stop_at_the_limit() {
        let mut lines = Lines::new("test", b"1\n2\n3\n".as_slice(), 0).expect("readable");
        lines.number_max = 2;
        assert!(lines.advance().expect("first") && lines.advance().expect("second"));
        let error = lines.advance().expect_err("third").to_string();
        assert_eq!(
            error,
            "test:3: the trace has more than 2 lines; cut it into parts"
        );
    }
}
