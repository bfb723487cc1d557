//! Everything that is wrong with a file, each with its place and what to change.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `fleet.photos.limits.max` or `policy[0].target`,
    /// counted from 0; empty for the file as a whole.
    pub path: String,
    /// The line of the key, counted from 1, or of the table it is missing in.
    pub line: Option<usize>,
    /// What is wrong and what to change.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `fleet.workers.limits.min: 9 is above max (8)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            out.write_str(&self.message)
        } else {
            write!(out, "{}: {}", self.path, self.message)
        }
    }
}

/// All that is wrong. As the error of a read it holds at least one, in the
/// order of the file: by line, then by path; those without a line come last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No problem.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The one problem `message` at `path`.
    pub fn one(path: &str, message: impl Into<String>) -> Self {
        let mut problems = Self::none();
        problems.add(path, message);
        problems
    }

    /// Adds a problem that has no line.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.push(Problem {
            path: path.to_owned(),
            line: None,
            message: message.into(),
        });
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// The same in the order of the file, each once.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        let key = |problem: &Problem| problem.line.unwrap_or(usize::MAX);
        self.0.sort_by(|one, other| {
            key(one)
                .cmp(&key(other))
                .then_with(|| one.path.cmp(&other.path))
        });
        self.0.dedup();
        self
    }

    /// One line each, with the place in `file`:
    /// `config.toml:12: fleet.workers.limits.min: 9 is above max (8)`.
    pub fn in_file(&self, file: &str) -> String {
        let lines: Vec<String> = self
            .iter()
            .map(|problem| match problem.line {
                Some(line) => format!("{file}:{line}: {problem}"),
                None => format!("{file}: {problem}"),
            })
            .collect();
        lines.join("\n")
    }
}

impl fmt::Display for Problems {
    /// One line each, without the line numbers.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            problem.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
