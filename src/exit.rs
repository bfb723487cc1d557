//! What the program tells the shell when it ends.

use std::process::ExitCode;

/// How the program ended. Most numbers are those of
/// BSD's `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it did what was asked.
    Done,
    /// 1: it did what was asked, and the answer is no: a check, a case or a
    /// replay failed.
    Failed,
    /// 64: the arguments or the configuration are wrong.
    Usage,
    /// 66: an input file is missing or cannot be read.
    NoInput,
    /// 69: the store, or what owns the instances, cannot be used.
    Unavailable,
    /// 70: a bug in windlass.
    Internal,
    /// 130: it was told to stop a second time, and did at once; what shells
    /// say of a program that Ctrl-C ended.
    CutShort,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::CutShort => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
