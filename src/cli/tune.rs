//! `windlass tune`: a policy with the knobs that pay, checked on what the search
//! never saw.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use windlass_policies::cases;
use windlass_policies::knobs::{Change, Tunable};
use windlass_policies::policy_file;
use windlass_simulator::comparison::{self, Opening, Row, Sheet, table};
use windlass_simulator::score::table::{Column, is_empty};

use super::Failure;
use super::compare::{candidates, kept, loads};
use super::simulate::{named_text, unwritable, write_columns};
use crate::comparison::tuning::{self, BLOCKS, Beside, Tuning, Verdict};
use crate::comparison::{Candidate, Options, Plan};
use crate::exit::Exit;

/// Into how many folds loads are cut: of a week, each is longer than a day.
const FOLDS: u32 = 5;

/// Two to search on, so that they can be told apart, and one to check on.
const FOLDS_MIN: i64 = 3;

/// More would make each too short to mean anything.
const FOLDS_MAX: i64 = 50;

/// Search a policy's knobs, and write it with those that pay
#[derive(Debug, Args)]
#[command(
    long_about = "Searches the knobs of a policy on recorded loads, and writes the policy with those that \
        pay.\n\n\
        Each load is cut into folds in the order of time. The search sees all but the last. Of what \
        it finds, the setting nearest to yours is taken that is within one standard error of the best. \
        Then it must be cheaper on the last fold too, with 95 % confidence; else nothing pays, which is \
        said, and what is written is your file as it is. Otherwise only the values that pay are others: \
        comments and all else stay.\n\n\
        All cores are used. Finished runs are kept, so that a search that was interrupted goes on where \
        it was. The same inputs give the same bytes, on any number of cores.",
    after_long_help = "Examples:\n  \
        windlass tune --scenario web.toml --policy mine.toml --out tuned.toml\n  \
        windlass tune --scenario builtin:web-week --policy builtin:step --out step.toml --report step.html\n  \
        windlass tune --scenario web.toml --trace may.csv june.csv --policy mine.toml --out tuned.toml\n  \
        windlass tune --scenario web.toml --seed 1 2 3 --policy mine.toml --out tuned.toml --format json\n\n\
        Whether it pays or not, the exit code is 0; with --format json, `pays` tells.\n\n\
        Environment:\n  \
          RAYON_NUM_THREADS how many cores are used\n  \
          XDG_CACHE_HOME    where finished runs are kept, in windlass/compare"
)]
pub(super) struct Tune {
    /// Worlds: files, or builtin:web-week, builtin:call-centre, builtin:ci-bursts, builtin:supercomputer
    #[arg(long = "scenario", value_name = "FILE", num_args = 1.., required = true)]
    scenarios: Vec<String>,

    /// The policy to tune: a file, or builtin:PRESET
    #[arg(long, value_name = "FILE")]
    policy: String,

    /// Where to write it with the knobs that pay
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Write over files that are there
    #[arg(long)]
    force: bool,

    /// Loads to use instead of the scenarios' own, each in every scenario
    #[arg(long = "trace", value_name = "FILE", num_args = 1..)]
    traces: Vec<PathBuf>,

    /// What random numbers grow from, each for every load [default: the scenarios']
    #[arg(long = "seed", value_name = "N", num_args = 1.., value_parser = clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs()))]
    seeds: Vec<u64>,

    /// Into how many folds each load is cut; the last is for the check
    #[arg(long, value_name = "N", default_value_t = FOLDS, value_parser = clap::value_parser!(u32).range(FOLDS_MIN..=FOLDS_MAX))]
    folds: u32,

    /// Policies to show beside it, as they stand: files, or builtin:PRESET [default: all presets]
    #[arg(long = "peer", value_name = "FILE", num_args = 1..)]
    peers: Vec<String>,

    /// At how many places of its main knob each policy is shown; 0 for none
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(0..=64))]
    frontier_points: u32,

    /// How the results are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = TuneFormat::Table)]
    format: TuneFormat,

    /// Also write a page with pictures of cost against wait
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Where finished runs are kept [default: windlass/compare in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Do everything anew, and keep nothing
    #[arg(long, conflicts_with = "state")]
    fresh: bool,
}

/// How results of tuning are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TuneFormat {
    /// Tables for people.
    Table,
    /// An object with a field for each figure.
    Json,
}

impl Tune {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        // A search takes long: what would stop it at its end is told first.
        for path in std::iter::once(&self.out).chain(&self.report) {
            self.refuse_existing(path)?;
        }
        let (name, text) = named_text(&self.policy)?;
        let policy = Tunable::read(&text);
        let policy =
            policy.map_err(|problems| Failure::new(Exit::Usage, problems.in_file(&self.policy)))?;
        if policy.dials() == 0 {
            let what = format!(
                "{} has no knobs to search: a clock says itself what it wants; tune another policy",
                self.policy
            );
            return Err(Failure::new(Exit::Usage, what));
        }
        let plan = self.plan(&name, &policy)?;
        let state = kept(self.state.as_deref(), self.fresh)?;
        let tuning = tuning::run(&plan, self.folds, &state)?;
        let most = plan.instances_max();
        let rewritten = policy.rewritten(&text, &tuning.chosen, most);
        let (tuned, changes) = rewritten.ok_or_else(|| self.unwritable_layout(&tuning))?;
        let written = if tuning.verdict == Verdict::Pays {
            &tuned
        } else {
            &text
        };
        let told = Told {
            verb: self,
            name: &name,
            broken_cases: broken_cases(written),
            sheets: comparison::sheets(&tuning.records, None),
            tuning: &tuning,
            changes,
        };
        self.write_file(&self.out, written)?;
        if let Some(path) = &self.report {
            self.write_file(path, &told.page())?;
        }
        match self.format {
            TuneFormat::Table => told.write_table(out)?,
            TuneFormat::Json => {
                let json = serde_json::to_string_pretty(&told.answer());
                writeln!(out, "{}", json.expect("an answer is plain data"))?;
            }
        }
        Ok(Exit::Done)
    }

    fn refuse_existing(&self, path: &Path) -> Result<(), Failure> {
        if path.is_dir() {
            let what = format!("{} is a folder: name a file to write", path.display());
            return Err(Failure::new(Exit::Usage, what));
        }
        if path.exists() && !self.force {
            return Err(exists(path));
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let what = format!(
                "there is no folder {} to write {} into; make it first",
                folder.display(),
                path.display()
            );
            return Err(Failure::new(Exit::Usage, what));
        }
        Ok(())
    }

    fn write_file(&self, path: &Path, text: &str) -> Result<(), Failure> {
        if self.force {
            return fs::write(path, text).map_err(|error| unwritable(path, error));
        }
        // Somebody may have made it while the search went on.
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        match file.and_then(|mut file| file.write_all(text.as_bytes())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
            written => written.map_err(|error| unwritable(path, error)),
        }
    }

    fn unwritable_layout(&self, tuning: &Tuning) -> Failure {
        let what = format!(
            "cannot write knobs into {} as it is laid out (places {:?}); write each key of its \
             [[policy]] on a line of its own",
            self.policy, tuning.chosen
        );
        Failure::new(Exit::Usage, what)
    }

    /// The policy first, then its peers.
    fn plan(&self, name: &str, policy: &Tunable) -> Result<Plan, Failure> {
        let scenarios = loads(&self.scenarios, &self.traces, &self.seeds)?;
        let mut all = vec![Candidate {
            name: name.to_owned(),
            policy: policy.clone(),
        }];
        let mut peers = candidates(&self.peers)?;
        if self.peers.is_empty() {
            // A preset that is tuned is no peer of itself.
            peers.retain(|peer| peer.name != name);
        }
        all.append(&mut peers);
        let options = Options {
            tuning_percent: None,
            frontier_points: self.frontier_points,
            bound_points: 0,
        };
        let most: Vec<u32> = scenarios.iter().map(|scenario| scenario.max).collect();
        if most.iter().any(|max| *max != most[0]) {
            let what = format!(
                "the fleets of the scenarios have at most {most:?} instances: a knob that counts \
                 instances reaches to fleet.max, so give all of them one"
            );
            return Err(Failure::new(Exit::Usage, what));
        }
        let plan = Plan::new(scenarios, all, options)?;
        plan.map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    }
}

fn exists(path: &Path) -> Failure {
    let what = format!(
        "{} is there already: name another file, or write over it with --force",
        path.display()
    );
    Failure::new(Exit::Usage, what)
}

/// How many of its own cases the policy file fails.
fn broken_cases(text: &str) -> usize {
    policy_file::read(text).map_or(0, |file| cases::run(&file.policies, &file.cases).len())
}

/// What is told of a tuning.
struct Told<'a> {
    verb: &'a Tune,
    name: &'a str,
    tuning: &'a Tuning,
    /// What was found, whether it pays or not.
    changes: Vec<Change>,
    broken_cases: usize,
    sheets: Vec<Sheet>,
}

/// The answer as an object.
#[derive(Serialize)]
struct Answer<'a> {
    policy: &'a str,
    out: String,
    pays: bool,
    says: String,
    folds: u32,
    candidates: usize,
    changes: Vec<ChangeTold<'a>>,
    training: BesideTold,
    unseen: BesideTold,
    train_test_gap: f64,
    broken_cases: usize,
    results: Vec<&'a Row>,
}

/// A key that was found worth changing on the folds that were searched.
#[derive(Serialize)]
struct ChangeTold<'a> {
    knob: &'a str,
    key: &'a str,
    from: Option<&'a str>,
    to: &'a str,
}

impl<'a> ChangeTold<'a> {
    fn of(change: &'a Change) -> Self {
        Self {
            knob: &change.knob,
            key: &change.key,
            from: change.from.as_deref(),
            to: &change.to,
        }
    }
}

/// Two policies on a part of the loads.
#[derive(Serialize)]
struct BesideTold {
    given_usd: f64,
    tuned_usd: f64,
    gain_usd: f64,
    gain: f64,
    standard_error: f64,
    /// Only where nothing was chosen.
    gain_low: Option<f64>,
    gain_high: Option<f64>,
}

impl BesideTold {
    fn of(beside: &Beside, unseen: bool) -> Self {
        let bound = |usd: f64| unseen.then(|| beside.share(usd));
        Self {
            given_usd: beside.given_usd,
            tuned_usd: beside.chosen_usd,
            gain_usd: beside.gain.usd,
            gain: beside.share(beside.gain.usd),
            standard_error: beside.share(beside.gain.standard_error_usd),
            gain_low: bound(beside.gain.low_usd),
            gain_high: bound(beside.gain.high_usd),
        }
    }
}

impl Told<'_> {
    fn pays(&self) -> bool {
        self.tuning.verdict == Verdict::Pays
    }

    /// How much more it gains where it was searched, as a share.
    fn gap(&self) -> f64 {
        let gain = |beside: &Beside| beside.share(beside.gain.usd);
        gain(&self.tuning.training) - gain(&self.tuning.unseen)
    }

    /// The gain where the search did not look, with its interval.
    fn interval(&self) -> String {
        let unseen = &self.tuning.unseen;
        let percent = |usd: f64| unseen.share(usd) * 100.0;
        format!(
            "{:.1} % (95 % confidence interval {:.1} % to {:.1} %)",
            percent(unseen.gain.usd),
            percent(unseen.gain.low_usd),
            percent(unseen.gain.high_usd)
        )
    }

    /// Whether it pays, in a sentence.
    fn says(&self) -> String {
        match self.tuning.verdict {
            Verdict::Pays => format!(
                "It pays: on the fold that the search never saw, it costs {} less.",
                self.interval()
            ),
            Verdict::NothingFound => format!(
                "Nothing pays: of {} settings, none is better than the policy as it stands by more \
                 than one standard error. It is left as it is.",
                self.tuning.candidates
            ),
            Verdict::NotUnseen => format!(
                "Nothing pays: what is best on the folds that were searched gains {} on the one that \
                 was not, which is not surely a gain. The policy is left as it is.",
                self.interval()
            ),
        }
    }

    /// How that was found out.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.tuning.verdict != Verdict::NothingFound {
            notes.push(format!(
                "The interval is Student's, of the gains of {BLOCKS} blocks of the last fold as shares \
                 of their costs, in pairs: the same jobs and the same boots for both{}. Where it was searched the gain is \
                 {:.1} %: the train-test gap is {:.1} points.",
                if self.verb.seeds.len() > 1 {
                    ", seeds averaged"
                } else {
                    ""
                },
                self.tuning.training.share(self.tuning.training.gain.usd) * 100.0,
                self.gap() * 100.0
            ));
        }
        if self.broken_cases > 0 {
            let cases = match self.broken_cases {
                1 => "1 case of the file no longer holds".to_owned(),
                more => format!("{more} cases of the file no longer hold"),
            };
            notes.push(format!(
                "{cases}: `windlass check {}` shows it.",
                self.verb.out.display()
            ));
        }
        notes
    }

    /// Costs of the given policy and of what was found.
    fn costs(&self) -> Vec<Column> {
        let rows = [&self.tuning.training, &self.tuning.unseen];
        let column = |head, cell: &dyn Fn(&Beside) -> String| Column {
            head,
            cells: rows.iter().map(|row| cell(row)).collect(),
        };
        let folds = self.verb.folds;
        vec![
            Column {
                head: "total of instances and waiting",
                cells: vec![
                    format!("folds 1 to {}, searched", folds - 1),
                    format!("fold {folds}, unseen"),
                ],
            },
            column("as given $", &|row| format!("{:.2}", row.given_usd)),
            column("found $", &|row| format!("{:.2}", row.chosen_usd)),
            column("gain $", &|row| format!("{:.2}", row.gain.usd)),
            column("gain %", &|row| {
                format!("{:.1}", row.share(row.gain.usd) * 100.0)
            }),
            column("standard error %", &|row| {
                format!("{:.1}", row.share(row.gain.standard_error_usd) * 100.0)
            }),
        ]
    }

    fn changed(&self) -> Vec<Column> {
        let column = |head, cell: &dyn Fn(&Change) -> String| Column {
            head,
            cells: self.changes.iter().map(cell).collect(),
        };
        vec![
            column(
                if self.pays() {
                    "changed"
                } else {
                    "found, not changed"
                },
                &|change| change.key.clone(),
            ),
            column("from", &|change| {
                change.from.clone().unwrap_or_else(|| "left out".to_owned())
            }),
            column("to", &|change| change.to.clone()),
        ]
    }

    fn head(&self) -> String {
        format!(
            "{}: {} settings tried on {} in {} folds",
            self.name,
            self.tuning.candidates,
            match self.sheets.len() {
                1 => "1 load".to_owned(),
                more => format!("{more} loads"),
            },
            self.verb.folds
        )
    }

    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}\n", self.head())?;
        write_columns(out, &self.costs())?;
        writeln!(out, "\n{}", self.says())?;
        for note in self.notes() {
            writeln!(out, "{note}")?;
        }
        if !is_empty(&self.changed()) {
            writeln!(out)?;
            write_columns(out, &self.changed())?;
        }
        for sheet in &self.sheets {
            let stage = &sheet.stage;
            writeln!(
                out,
                "\nThe front of cost against wait on the last fold of {}, {}, seed {}\n",
                stage.scenario, stage.trace, stage.seed
            )?;
            write_columns(out, &table::front(sheet))?;
        }
        let what = if self.pays() { "" } else { ", unchanged" };
        writeln!(out, "\n{}{what} in {}", self.name, self.verb.out.display())
    }

    fn page(&self) -> String {
        let mut notes = vec![format!("{}.", self.head()), self.says()];
        notes.extend(self.notes());
        let mut tables = vec![self.costs()];
        if !is_empty(&self.changed()) {
            tables.push(self.changed());
        }
        let opening = Opening {
            title: "windlass tune".to_owned(),
            heading: format!("Tuning of {}", self.name),
            notes,
            tables,
        };
        comparison::html_after(&opening, &self.sheets)
    }

    fn answer(&self) -> Answer<'_> {
        Answer {
            policy: self.name,
            out: self.verb.out.display().to_string(),
            pays: self.pays(),
            says: self.says(),
            folds: self.verb.folds,
            candidates: self.tuning.candidates,
            changes: self.changes.iter().map(ChangeTold::of).collect(),
            training: BesideTold::of(&self.tuning.training, false),
            unseen: BesideTold::of(&self.tuning.unseen, true),
            train_test_gap: self.gap(),
            broken_cases: self.broken_cases,
            results: self.sheets.iter().flat_map(|sheet| &sheet.rows).collect(),
        }
    }
}
