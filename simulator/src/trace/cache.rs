//! The cache: a trace in a form that is read many times faster than text.
//!
//! All numbers are little-endian. A file is a header of 40 bytes and blocks:
//!
//! ```text
//! header  magic     8 bytes   89 "WTRACE" 0a
//!         version   u32       1
//!         kind      u32       0 rates, 1 jobs, 2 jobs with classes
//!         step      u64       of rates, in microseconds; otherwise 0
//!         begins    u64       microseconds since 1970 plus 1; 0 if not known
//!         (none)    u32       0
//!         checksum  u32       CRC-32 of the 36 bytes before
//! block   count     u32       entries, at most 65,536; 0 in the last block
//!         widths    3 x u8    bytes per entry of each column, 0 to 8
//!         (none)    u8        0
//!         base      u64       what the first column counts from; in the last
//!                             block the number of all entries
//!         names     u32       bytes of new class names
//!         payload   u32       bytes of the columns
//!         checksum  u32       CRC-32 of the 24 bytes before, names and columns
//!         names               each u16 length and UTF-8
//!         columns             one after the other, entries of `width` bytes
//! ```
//!
//! Jobs have the columns arrival (what it is later than the one before; the
//! first of a block than `base`), service and class; rates have one, the count
//! less `base`. Damage, a missing end and a newer version are errors.

use std::io::{self, Write};

use windlass_policies::units::Timestamp;

use super::lines::Lines;
use super::stream::JobBlock;
use super::{CLASS_BYTES_MAX, CLASSES_MAX, Classes, TIME_MICROS_MAX, Trace, TraceError, TraceKind};

pub(super) const MAGIC: &[u8; 8] = b"\x89WTRACE\x0a";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;
const BLOCK_HEADER_BYTES: usize = 28;
const COLUMNS: usize = 3;

/// Entries of a block: large enough that the header does not count, and small
/// enough that a block is unpacked within the second cache.
const BLOCK_ENTRIES: usize = 16_384;
const BLOCK_ENTRIES_MAX: usize = 65_536;

/// More entries than this are not kept in memory: 2 GB.
const ENTRIES_MAX: u64 = 100_000_000;

/// New names of one block: as many as entries, as long as they may be.
const NAMES_BYTES_MAX: usize = BLOCK_ENTRIES_MAX * (CLASS_BYTES_MAX + 2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rates,
    Jobs,
    ClassedJobs,
}

/// Writes `trace` as a cache.
///
/// # Errors
/// If it cannot be written.
pub fn write(trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    match trace.kind() {
        TraceKind::Rate {
            step_micros,
            counts,
        } => {
            write_header(out, Kind::Rates, *step_micros, trace.begins_at())?;
            for block in counts.chunks(BLOCK_ENTRIES) {
                let base = block.iter().copied().min().unwrap_or(0);
                let column: Vec<u64> = block.iter().map(|count| count - base).collect();
                write_block(out, base, &[], &[&column])?;
            }
            write_end(out, counts.len() as u64)
        }
        TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        } => {
            let classed = !classes.numbers().is_empty();
            let kind = if classed {
                Kind::ClassedJobs
            } else {
                Kind::Jobs
            };
            write_header(out, kind, 0, trace.begins_at())?;
            write_jobs(out, arrival_micros, service_micros, classes)?;
            write_end(out, arrival_micros.len() as u64)
        }
    }
}

fn write_jobs(
    out: &mut dyn Write,
    arrivals: &[u64],
    services: &[u64],
    classes: &Classes,
) -> io::Result<()> {
    let mut base = 0;
    let mut names_written = 0;
    for from in (0..arrivals.len()).step_by(BLOCK_ENTRIES) {
        let to = arrivals.len().min(from + BLOCK_ENTRIES);
        let numbers = classes.numbers().get(from..to).unwrap_or_default();
        let numbers: Vec<u64> = numbers.iter().copied().map(u64::from).collect();
        let new = numbers.iter().max().map_or(0, |most| index(*most) + 1);
        let mut names = Vec::new();
        for name in classes.names().get(names_written..new).unwrap_or_default() {
            let length = u16::try_from(name.len())
                .map_err(|_| io::Error::other(format!("the class {name} is too long")))?;
            names.extend(length.to_le_bytes());
            names.extend(name.as_bytes());
        }
        names_written = names_written.max(new);
        let used = if numbers.is_empty() { 2 } else { 3 };
        let later = differences(base, &arrivals[from..to]);
        let columns = [later.as_slice(), &services[from..to], &numbers];
        write_block(out, base, &names, &columns[..used])?;
        base = arrivals[to - 1];
    }
    Ok(())
}

/// How much later than the one before each arrival is; the first than `base`.
fn differences(base: u64, arrivals: &[u64]) -> Vec<u64> {
    let mut before = base;
    let later = |arrival: &u64| arrival - std::mem::replace(&mut before, *arrival);
    arrivals.iter().map(later).collect()
}

/// Writes a cache of jobs without classes block by block, for traces that are
/// longer than memory.
#[derive(Debug)]
pub struct JobsWriter<W> {
    out: W,
    block: JobBlock,
    base: u64,
    entries: u64,
}

impl<W: Write> JobsWriter<W> {
    /// Writes the header of a trace whose zero has no known time.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        write_header(&mut out, Kind::Jobs, 0, None)?;
        Ok(Self {
            out,
            block: JobBlock::with_room(),
            base: 0,
            entries: 0,
        })
    }

    /// Adds a job, which arrives no earlier than the one before.
    ///
    /// # Errors
    /// If it arrives earlier, or its times are above [`TIME_MICROS_MAX`], or it
    /// cannot be written.
    pub fn push(&mut self, arrival: u64, service: u64) -> io::Result<()> {
        let last = self.block.arrival_micros.last().copied();
        if arrival < last.unwrap_or(self.base) || arrival.max(service) > TIME_MICROS_MAX {
            return Err(io::Error::other("jobs must be in order, and not too long"));
        }
        self.block.arrival_micros.push(arrival);
        self.block.service_micros.push(service);
        if self.block.is_full() {
            self.write_out()?;
        }
        Ok(())
    }

    /// Writes the end, and gives back what it was written to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_out()?;
        }
        write_end(&mut self.out, self.entries)?;
        Ok(self.out)
    }

    fn write_out(&mut self) -> io::Result<()> {
        let later = differences(self.base, &self.block.arrival_micros);
        let columns = [later.as_slice(), &self.block.service_micros];
        write_block(&mut self.out, self.base, &[], &columns)?;
        self.entries += self.block.len() as u64;
        self.base = self.block.arrival_micros.last().copied().unwrap_or(0);
        self.block.clear();
        Ok(())
    }
}

fn write_header(
    out: &mut dyn Write,
    kind: Kind,
    step_micros: u64,
    begins_at: Option<Timestamp>,
) -> io::Result<()> {
    let kind = match kind {
        Kind::Rates => 0_u32,
        Kind::Jobs => 1,
        Kind::ClassedJobs => 2,
    };
    let begins = begins_at.map_or(0, |at| at.micros().saturating_add(1));
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(kind.to_le_bytes());
    header.extend(step_micros.to_le_bytes());
    header.extend(begins.to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    out.write_all(&header)
}

fn write_block(out: &mut dyn Write, base: u64, names: &[u8], columns: &[&[u64]]) -> io::Result<()> {
    let mut widths = [0_u8; 4];
    let mut body = names.to_vec();
    for (width, column) in widths.iter_mut().zip(columns) {
        let bits = column.iter().fold(0, |all, value| all | value);
        let bytes = (u64::BITS - bits.leading_zeros()).div_ceil(8) as usize;
        *width = u8::try_from(bytes).unwrap_or(8);
        for value in *column {
            body.extend(&value.to_le_bytes()[..bytes]);
        }
    }
    let count = columns.first().map_or(0, |column| column.len());
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let mut header = Vec::with_capacity(BLOCK_HEADER_BYTES);
    header.extend(length(count)?.to_le_bytes());
    header.extend(widths);
    header.extend(base.to_le_bytes());
    header.extend(length(names.len())?.to_le_bytes());
    header.extend(length(body.len() - names.len())?.to_le_bytes());
    header.extend(checksum(&header, &body).to_le_bytes());
    out.write_all(&header)?;
    out.write_all(&body)
}

fn write_end(out: &mut dyn Write, entries: u64) -> io::Result<()> {
    write_block(out, entries, &[], &[])
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// Reads a whole cache.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    let mut reader = Reader::new(lines)?;
    let mut block = JobBlock::default();
    let mut all = JobBlock::default();
    while reader.next_block(lines, &mut block)? {
        if reader.entries > ENTRIES_MAX {
            let reason =
                format!("the trace has more than {ENTRIES_MAX} entries; cut it into parts");
            return Err(lines.wrong(reader.place(), reason));
        }
        all.arrival_micros.append(&mut block.arrival_micros);
        all.service_micros.append(&mut block.service_micros);
        all.class_numbers.append(&mut block.class_numbers);
    }
    if all.is_empty() {
        return Err(lines.wrong(reader.place(), "the trace is empty"));
    }
    let kind = match reader.kind {
        // Counts come in the first column.
        Kind::Rates => TraceKind::Rate {
            step_micros: reader.step_micros,
            counts: all.arrival_micros,
        },
        Kind::Jobs | Kind::ClassedJobs => TraceKind::Jobs {
            arrival_micros: all.arrival_micros,
            service_micros: all.service_micros,
            classes: Classes {
                names: reader.names,
                numbers: all.class_numbers,
            },
        },
    };
    Ok((kind, reader.begins_at))
}

/// Where a reader of a cache is.
pub(super) struct Reader {
    kind: Kind,
    step_micros: u64,
    begins_at: Option<Timestamp>,
    names: Vec<String>,
    // Blocks and entries read so far.
    blocks: u64,
    entries: u64,
    // The last arrival.
    last: u64,
    body: Vec<u8>,
    numbers: Vec<u64>,
    ended: bool,
}

/// A block's header, checked.
struct Head {
    count: usize,
    widths: [usize; COLUMNS],
    base: u64,
    names: usize,
}

impl Reader {
    /// Reads the header.
    pub(super) fn new(lines: &mut Lines<'_>) -> Result<Self, TraceError> {
        let mut header = [0; HEADER_BYTES];
        let length = lines.read_raw(&mut header)?;
        let wrong = |reason: String| lines.wrong("header", reason);
        if length < 8 || header[..8] != *MAGIC {
            return Err(wrong(
                "this is no cache; `windlass trace convert` writes them".into(),
            ));
        }
        let version = u32_at(&header, 8);
        if length >= 12 && version != VERSION {
            return Err(wrong(format!(
                "the cache has version {version}, and {VERSION} is known; convert the trace again \
                 with this windlass, or use a newer one"
            )));
        }
        if length < HEADER_BYTES || u32_at(&header, 36) != crc32fast::hash(&header[..36]) {
            return Err(wrong(
                "it is damaged or cut off; convert the trace again".into(),
            ));
        }
        let kind = match u32_at(&header, 12) {
            0 => Kind::Rates,
            1 => Kind::Jobs,
            2 => Kind::ClassedJobs,
            other => return Err(wrong(format!("there is no kind {other} of trace"))),
        };
        let step_micros = u64_at(&header, 16);
        if (kind == Kind::Rates) != (1..=TIME_MICROS_MAX).contains(&step_micros) {
            return Err(wrong(format!(
                "a step of {step_micros} microseconds is out of range"
            )));
        }
        Ok(Self {
            kind,
            step_micros,
            begins_at: u64_at(&header, 24)
                .checked_sub(1)
                .map(Timestamp::from_micros),
            names: Vec::new(),
            blocks: 0,
            entries: 0,
            last: 0,
            body: Vec::new(),
            numbers: Vec::new(),
            ended: false,
        })
    }

    /// Whether it holds jobs, and not rates.
    pub(super) fn has_jobs(&self) -> bool {
        self.kind != Kind::Rates
    }

    pub(super) fn class_names(&self) -> &[String] {
        &self.names
    }

    fn place(&self) -> String {
        format!("block {}", self.blocks)
    }

    /// Puts the next block into `block`, in the place of what it holds; false
    /// at the end. Counts go where arrivals go.
    pub(super) fn next_block(
        &mut self,
        lines: &mut Lines<'_>,
        block: &mut JobBlock,
    ) -> Result<bool, TraceError> {
        block.clear();
        if self.ended {
            return Ok(false);
        }
        let head = self.read_block(lines)?;
        let read = match head {
            Some(head) => self.unpack(&head, block).map(|()| true),
            None => Ok(false),
        };
        read.map_err(|reason| lines.wrong(self.place(), reason))
    }

    /// Reads the next block into `body`; `None` at the end.
    fn read_block(&mut self, lines: &mut Lines<'_>) -> Result<Option<Head>, TraceError> {
        self.blocks += 1;
        let mut header = [0; BLOCK_HEADER_BYTES];
        if lines.read_raw(&mut header)? < BLOCK_HEADER_BYTES {
            return Err(lines.wrong(self.place(), CUT_OFF));
        }
        let head = self
            .check(&header)
            .map_err(|reason| lines.wrong(self.place(), reason))?;
        let payload: usize = head.widths.iter().map(|width| width * head.count).sum();
        let length = head.names + payload;
        self.body.resize(length, 0);
        if lines.read_raw(&mut self.body)? < length {
            return Err(lines.wrong(self.place(), CUT_OFF));
        }
        if checksum(&header[..24], &self.body) != u32_at(&header, 24) {
            return Err(lines.wrong(self.place(), DAMAGED));
        }
        if head.count > 0 {
            self.entries += head.count as u64;
            return Ok(Some(head));
        }
        if head.base != self.entries {
            return Err(lines.wrong(self.place(), DAMAGED));
        }
        let mut more = [0; 1];
        if lines.read_raw(&mut more)? > 0 {
            return Err(lines.wrong(self.place(), "something follows the end of the cache"));
        }
        self.ended = true;
        Ok(None)
    }

    /// What a block's header says, before its checksum is known: so much only
    /// that nothing large is read for nothing.
    fn check(&self, header: &[u8; BLOCK_HEADER_BYTES]) -> Result<Head, &'static str> {
        let count = u32_at(header, 0) as usize;
        let widths = [header[4], header[5], header[6]].map(usize::from);
        let names = u32_at(header, 16) as usize;
        let payload: usize = widths.iter().map(|width| width * count).sum();
        let columns = match self.kind {
            Kind::Rates => 1,
            Kind::Jobs => 2,
            Kind::ClassedJobs => 3,
        };
        let fits = count <= BLOCK_ENTRIES_MAX
            && widths.iter().all(|width| *width <= 8)
            && widths[columns..].iter().all(|width| *width == 0)
            && names <= NAMES_BYTES_MAX
            && payload == u32_at(header, 20) as usize;
        if !fits {
            return Err(DAMAGED);
        }
        Ok(Head {
            count,
            widths,
            base: u64_at(header, 8),
            names,
        })
    }

    fn unpack(&mut self, head: &Head, block: &mut JobBlock) -> Result<(), &'static str> {
        let (names, columns) = self.body.split_at(head.names);
        read_names(names, &mut self.names)?;
        let (first, rest) = columns.split_at(head.widths[0] * head.count);
        let (second, third) = rest.split_at(head.widths[1] * head.count);
        unpack_column(first, head.widths[0], head.count, &mut block.arrival_micros);
        if self.kind == Kind::Rates {
            return add_base(
                head.base,
                &mut block.arrival_micros,
                self.entries,
                self.step_micros,
            );
        }
        if head.base != self.last {
            return Err(DAMAGED);
        }
        self.last = sum_up(head.base, &mut block.arrival_micros)?;
        unpack_column(
            second,
            head.widths[1],
            head.count,
            &mut block.service_micros,
        );
        if block
            .service_micros
            .iter()
            .any(|service| *service > TIME_MICROS_MAX)
        {
            return Err("a service time is out of range");
        }
        if self.kind == Kind::ClassedJobs {
            unpack_column(third, head.widths[2], head.count, &mut self.numbers);
            let known = self.names.len() as u64;
            if self.numbers.iter().any(|number| *number >= known) {
                return Err("a class has no name");
            }
            let numbers = self
                .numbers
                .iter()
                .map(|number| u32::try_from(*number).unwrap_or(0));
            block.class_numbers.extend(numbers);
        }
        Ok(())
    }
}

const CUT_OFF: &str = "the cache ends early; convert the trace again";
const DAMAGED: &str = "the cache is damaged; convert the trace again";

fn read_names(mut bytes: &[u8], names: &mut Vec<String>) -> Result<(), &'static str> {
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length));
        let name = rest.get(..length).ok_or(DAMAGED)?;
        if length > CLASS_BYTES_MAX || names.len() >= CLASSES_MAX {
            return Err("there are too many classes, or one is too long");
        }
        names.push(str::from_utf8(name).map_err(|_| DAMAGED)?.to_owned());
        bytes = &rest[length..];
    }
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(DAMAGED)
    }
}

/// Adds up what each arrival is later than the one before.
fn sum_up(base: u64, column: &mut [u64]) -> Result<u64, &'static str> {
    let mut at = base;
    let mut all = 0;
    for value in column.iter_mut() {
        all |= *value;
        at = at.wrapping_add(*value);
        *value = at;
    }
    // A base of at most 2^60 and 65,536 differences below 2^47 cannot overflow;
    // with greater ones every value is looked at.
    let beyond = || column.iter().any(|value| *value > TIME_MICROS_MAX);
    if at > TIME_MICROS_MAX || all >= 1 << 47 && (beyond() || !column.is_sorted()) {
        return Err("an arrival is out of range");
    }
    Ok(at)
}

fn add_base(base: u64, column: &mut [u64], entries: u64, step: u64) -> Result<(), &'static str> {
    for value in column.iter_mut() {
        *value = value.checked_add(base).ok_or("a count is out of range")?;
    }
    match entries.checked_mul(step) {
        Some(end) if end <= TIME_MICROS_MAX => Ok(()),
        _ => Err("the trace is too long"),
    }
}

/// Puts a column's entries into `into`, in the place of what it holds.
fn unpack_column(bytes: &[u8], width: usize, count: usize, into: &mut Vec<u64>) {
    into.clear();
    match width {
        0 => into.resize(count, 0),
        1 => unpack_wide::<1>(bytes, into),
        2 => unpack_wide::<2>(bytes, into),
        3 => unpack_wide::<3>(bytes, into),
        4 => unpack_wide::<4>(bytes, into),
        5 => unpack_wide::<5>(bytes, into),
        6 => unpack_wide::<6>(bytes, into),
        7 => unpack_wide::<7>(bytes, into),
        _ => unpack_wide::<8>(bytes, into),
    }
}

fn unpack_wide<const WIDTH: usize>(bytes: &[u8], into: &mut Vec<u64>) {
    let (entries, _) = bytes.as_chunks::<WIDTH>();
    into.extend(entries.iter().map(|entry| {
        let mut wide = [0; 8];
        wide[..WIDTH].copy_from_slice(entry);
        u64::from_le_bytes(wide)
    }));
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
