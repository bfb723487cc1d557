//! Jobs or steps one after the other, from formats that name their fields.

use windlass_policies::units::Timestamp;

use super::csv::{RateRows, check_order};
use super::stream::JobBlock;
use super::{Classes, Interner, TraceKind};

/// When a job arrives.
pub(super) enum Arrival {
    /// In microseconds from the trace's zero.
    Micros(u64),
    /// By the calendar; the first job's is the trace's zero.
    At(Timestamp),
}

/// What was read so far: jobs, or steps, but not both.
pub(super) struct Records {
    rates: RateRows,
    rate_rows: u64,
    // Those that were not taken yet, and how many there were in all.
    jobs: JobBlock,
    job_rows: u64,
    // The arrival of the job before.
    last: u64,
    // The time of the first job, where jobs have times of the calendar.
    zero: Option<Timestamp>,
    interner: Interner,
}

impl Records {
    pub(super) fn new() -> Self {
        Self {
            rates: RateRows::default(),
            rate_rows: 0,
            jobs: JobBlock::default(),
            job_rows: 0,
            last: 0,
            zero: None,
            interner: Interner::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rate_rows == 0 && self.job_rows == 0
    }

    pub(super) fn has_jobs(&self) -> bool {
        self.job_rows > 0
    }

    /// The classes met so far.
    pub(super) fn class_names(&self) -> &[String] {
        &self.interner.names
    }

    /// How many jobs were not taken yet.
    pub(super) fn held(&self) -> usize {
        self.jobs.len()
    }

    /// Puts those jobs in the place of what `block` holds.
    pub(super) fn take_jobs(&mut self, block: &mut JobBlock) {
        std::mem::swap(&mut self.jobs, block);
        self.jobs.clear();
    }

    /// The next step; `skipped` records were passed over so far.
    pub(super) fn push_count(&mut self, at: u64, count: u64, skipped: u64) -> Result<(), String> {
        if self.job_rows > 0 {
            return Err("a count among jobs; a trace has either".into());
        }
        self.rate_rows += 1;
        self.rates.push(at, count, skipped)
    }

    /// The next job. One without a class has the empty class, if any has one.
    pub(super) fn push_job(
        &mut self,
        arrival: &Arrival,
        service: u64,
        class: Option<&[u8]>,
    ) -> Result<(), String> {
        if self.rate_rows > 0 {
            return Err("a job among counts; a trace has either".into());
        }
        let arrival = self.since_zero(arrival)?;
        check_order(self.last, arrival)?;
        self.push_class(class)?;
        self.last = arrival;
        self.job_rows += 1;
        self.jobs.arrival_micros.push(arrival);
        self.jobs.service_micros.push(service);
        Ok(())
    }

    fn since_zero(&mut self, arrival: &Arrival) -> Result<u64, String> {
        match arrival {
            Arrival::Micros(_) if self.zero.is_some() => {
                Err("arrival_s among jobs with arrival; use one of them".into())
            }
            Arrival::Micros(micros) => Ok(*micros),
            Arrival::At(_) if self.zero.is_none() && self.job_rows > 0 => {
                Err("arrival among jobs with arrival_s; use one of them".into())
            }
            Arrival::At(at) => {
                let zero = *self.zero.get_or_insert(*at);
                at.micros().checked_sub(zero.micros()).ok_or_else(|| {
                    "arrival is before that of the first job; sort the jobs by arrival".to_owned()
                })
            }
        }
    }

    fn push_class(&mut self, class: Option<&[u8]>) -> Result<(), String> {
        if class.is_none() && self.jobs.class_numbers.is_empty() {
            return Ok(());
        }
        let number = self.interner.intern(class.unwrap_or_default())?;
        let before = self.jobs.len() - self.jobs.class_numbers.len();
        if before > 0 {
            let none = self.interner.intern(b"")?;
            self.jobs
                .class_numbers
                .extend(std::iter::repeat_n(none, before));
        }
        self.jobs.class_numbers.push(number);
        Ok(())
    }

    /// All of them, and what time it was at the trace's zero.
    pub(super) fn finish(self) -> Result<(TraceKind, Option<Timestamp>), String> {
        if self.jobs.is_empty() {
            return Ok((self.rates.finish()?, None));
        }
        let kind = TraceKind::Jobs {
            arrival_micros: self.jobs.arrival_micros,
            service_micros: self.jobs.service_micros,
            classes: Classes {
                names: self.interner.names,
                numbers: self.jobs.class_numbers,
            },
        };
        Ok((kind, self.zero))
    }
}
