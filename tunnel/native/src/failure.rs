//! Why a data plane could not be opened: a code of `tunnel/error.ts` and a sentence for a person.

use std::io;

/// A failure with its code.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// What is wrong and what to do.
    pub message: String,
}

/// The codes of `TunnelErrorCode` that are given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// /dev/net/tun is missing or refused.
    NoTun,
    /// The kernel refused something that needs CAP_NET_ADMIN.
    NoPrivilege,
    /// An interface of that name exists already.
    NameTaken,
    /// The UDP port is in use.
    PortTaken,
    /// Something that does not fail on a machine that works.
    Fault,
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        match self {
            Self::NoTun => "no-tun",
            Self::NoPrivilege => "no-privilege",
            Self::NameTaken => "name-taken",
            Self::PortTaken => "port-taken",
            Self::Fault => "fault",
        }
    }
}

impl Failure {
    /// A failure of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A system call that failed for no reason that a person could mend.
    pub fn call(what: &str, error: &io::Error) -> Self {
        Self::new(Code::Fault, format!("the kernel refused {what}: {error}"))
    }
}
