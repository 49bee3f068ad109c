//! How an event's sandbox came to be, and why not sooner: idle from an event before, claimed with its language up,
//! claimed before its exec, or made for it in full.

use std::fmt;

use super::{DEFAULT_PIDS, DEFAULT_TMP_MIB, Function};
use crate::pool::ahead::{Form, Kind, Off};

/// The least that a function may have, and what waits is made with.
const MIN_MEMORY_MIB: u32 = 128;

/// As the log and the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    Warm,
    /// In a held sandbox, from an image of its language's runtime.
    Image,
    Preboot,
    Held,
    Full,
}

impl Boot {
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Image => "image",
            Self::Preboot => "preboot",
            Self::Held => "held",
            Self::Full => "full",
        }
    }
}

/// Why a quicker start was not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The bootstrap cannot start without its function; or there is none.
    Runtime {
        name: String,
    },
    /// `pattern` is the manifest's, of which `name` is one.
    Variable {
        name: String,
        pattern: String,
    },
    Wrapper,
    Tmp {
        mib: u32,
    },
    Pids {
        count: u32,
    },
    HostNetwork,
    NoneWaiting,
    Off(Off),
    /// Its claim failed.
    Refused {
        why: String,
    },
    /// Its image did not start.
    Image {
        why: String,
    },
}

impl Why {
    /// For a metric's label: of manifests and of Kennel, never a caller's text.
    pub fn label(&self) -> &str {
        match self {
            Self::Runtime { .. } => "runtime",
            Self::Variable { pattern, .. } => pattern,
            Self::Wrapper => "AWS_LAMBDA_EXEC_WRAPPER",
            Self::Tmp { .. } => "EphemeralStorage",
            Self::Pids { .. } => "pids",
            Self::HostNetwork => "host network",
            Self::NoneWaiting => "none waiting",
            Self::Off(Off::NotRoot) => "not root",
            Self::Off(Off::NotWanted) => "preboot is 0",
            Self::Refused { .. } => "claim refused",
            Self::Image { .. } => "image failed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime { name } => write!(f, "{name} does not start ahead"),
            Self::Variable { name, .. } => {
                write!(f, "{name} must be there when the process starts")
            }
            Self::Wrapper => f.write_str("AWS_LAMBDA_EXEC_WRAPPER starts the runtime"),
            Self::Tmp { mib } => write!(f, "/tmp of {mib} MB is not the usual one"),
            Self::Pids { count } => write!(f, "{count} processes are not the usual number"),
            Self::Refused { why } | Self::Image { why } => f.write_str(why),
            other => f.write_str(other.label()),
        }
    }
}

/// Several reasons in a line, none twice.
pub fn words(why: &[Why]) -> String {
    let mut words: Vec<String> = Vec::new();
    for one in why.iter().map(ToString::to_string) {
        if !words.contains(&one) {
            words.push(one);
        }
    }
    words.join("; ")
}

/// Which waiting sandboxes a function can claim, or why none of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    preboot: Result<Kind, Why>,
    held: Result<Kind, Why>,
}

impl Kinds {
    /// `held_as` is the runtime's place in the launcher's table, or that of another with the same files.
    pub fn of(function: &Function, held_as: u32) -> Self {
        let usual = if function.tmp_mib != DEFAULT_TMP_MIB {
            Err(Why::Tmp { mib: function.tmp_mib })
        } else if function.pids != DEFAULT_PIDS {
            Err(Why::Pids { count: function.pids })
        } else if function.host_network {
            Err(Why::HostNetwork)
        } else {
            Ok(())
        };
        let held = Kind { runtime: held_as, memory_mib: MIN_MEMORY_MIB, form: Form::Held };
        Self { preboot: usual.clone().and_then(|()| preboot(function)), held: usual.map(|()| held) }
    }

    /// The one that is worth having for it.
    pub fn best(&self) -> Option<Kind> {
        self.preboot.as_ref().or(self.held.as_ref()).ok().copied()
    }

    /// All that it may claim.
    pub fn all(&self) -> Vec<Kind> {
        [&self.preboot, &self.held].into_iter().flatten().copied().collect()
    }

    /// The one whose program can go on from an image: held, of what could as well be up.
    pub fn image(&self) -> Option<Kind> {
        self.preboot.as_ref().ok()?;
        self.held.as_ref().ok().copied()
    }

    /// The quickest that waits, by `take`, and why it is no quicker one.
    pub fn choose<T>(
        &self,
        off: Option<Off>,
        mut take: impl FnMut(Kind) -> Option<T>,
    ) -> (Option<(Boot, T)>, Vec<Why>) {
        if let Some(off) = off {
            return (None, vec![Why::Off(off)]);
        }
        let mut why = Vec::new();
        for (boot, kind) in [(Boot::Preboot, &self.preboot), (Boot::Held, &self.held)] {
            match kind.as_ref().map(|kind| take(*kind)) {
                Ok(Some(one)) => return (Some((boot, one)), why),
                Ok(None) => why.push(Why::NoneWaiting),
                Err(reason) => why.push(reason.clone()),
            }
        }
        (None, why)
    }
}

fn preboot(function: &Function) -> Result<Kind, Why> {
    let runtime = &function.runtime;
    if !runtime.preboot {
        return Err(Why::Runtime { name: runtime.name.clone() });
    }
    if let Some((name, pattern)) = runtime.full_boot_variable(&function.environment) {
        return Err(Why::Variable { name: name.into(), pattern: pattern.into() });
    }
    if function.environment.iter().any(|(key, _)| key == "AWS_LAMBDA_EXEC_WRAPPER") {
        return Err(Why::Wrapper);
    }
    let depends = runtime.depends_on_memory();
    let memory_mib = if depends { function.memory.mib() } else { MIN_MEMORY_MIB };
    Ok(Kind { runtime: function.runtime_index, memory_mib, form: Form::Preboot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(preboot: bool, held: bool) -> Kinds {
        let kind = |form| Kind { runtime: 0, memory_mib: 128, form };
        let variable = Why::Variable { name: "PYTHONPATH".into(), pattern: "PYTHON*".into() };
        Kinds {
            preboot: preboot.then(|| kind(Form::Preboot)).ok_or(variable),
            held: held.then(|| kind(Form::Held)).ok_or(Why::Tmp { mib: 513 }),
        }
    }

    #[test]
    fn the_quickest_that_waits_is_taken_and_the_reason_told() {
        use Boot::{Held, Preboot};
        let variable = "PYTHONPATH must be there when the process starts";
        let both = format!("{variable}; none waiting");
        let tmp = format!("{variable}; /tmp of 513 MB is not the usual one");
        for (kinds, waiting, off, boot, why, label) in [
            (kinds(true, true), vec![Form::Preboot, Form::Held], None, Some(Preboot), "", None),
            (
                kinds(true, true),
                vec![Form::Held],
                None,
                Some(Held),
                "none waiting",
                Some("none waiting"),
            ),
            (kinds(true, true), vec![], None, None, "none waiting", Some("none waiting")),
            (kinds(false, true), vec![Form::Held], None, Some(Held), variable, Some("PYTHON*")),
            (kinds(false, true), vec![], None, None, &both, Some("none waiting")),
            (kinds(false, false), vec![Form::Held], None, None, &tmp, Some("EphemeralStorage")),
            (
                kinds(true, true),
                vec![Form::Held],
                Some(Off::NotRoot),
                None,
                "not root",
                Some("not root"),
            ),
            (
                kinds(false, true),
                vec![Form::Held],
                Some(Off::NotWanted),
                None,
                "preboot is 0",
                Some("preboot is 0"),
            ),
        ] {
            let take = |kind: Kind| waiting.contains(&kind.form).then_some(());
            let (taken, reasons) = kinds.choose(off, take);
            assert_eq!(taken.map(|(boot, ())| boot), boot, "{kinds:?} {waiting:?}");
            assert_eq!(words(&reasons), why, "{kinds:?} {waiting:?}");
            assert_eq!(reasons.last().map(Why::label), label, "{kinds:?} {waiting:?}");
        }
    }

    #[test]
    fn what_is_worth_having_is_the_quickest_that_may_be_claimed() {
        for (kinds, best, all) in [
            (kinds(true, true), Some(Form::Preboot), 2),
            (kinds(false, true), Some(Form::Held), 1),
            (kinds(false, false), None, 0),
        ] {
            let image = (all == 2).then_some(Form::Held);
            assert_eq!(kinds.image().map(|kind| kind.form), image, "{kinds:?}");
            assert_eq!(kinds.best().map(|kind| kind.form), best);
            assert_eq!(kinds.all().len(), all);
        }
    }
}
