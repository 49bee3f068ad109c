//! Turns `policy.toml` into the seccomp filter, while Kennel is being built.
//!
//! Included by `build.rs`, so that at run time a filter is a few kilobytes of ready bytes; and by the
//! tests, which run the same program through an interpreter. Knows nothing of processes.
//!
//! The program is one list of classic BPF instructions:
//!
//! ```text
//! foreign architecture (int 0x80 on x86_64)      → kill the process
//! binary search over ranges of syscall numbers   → allow | EPERM | ENOSYS | look at the arguments
//! arguments match one of the call's lines        → allow, else EPERM
//! ```
//!
//! A tree and not the usual chain of comparisons, for two reasons. A chain of 300 calls costs the last
//! of them a thousand instructions each time. And when a filter is installed, the kernel runs it once
//! for every syscall number (its cache of calls that are always allowed), which with a chain takes
//! longer than the rest of a sandbox's set-up.
//!
//! Source: seccomp(2); kernel/seccomp.c, `seccomp_cache_prepare_bitmap`; linux/bpf_common.h.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The syscall numbers of the kernel, one call a line; see the head of the file.
const NUMBERS: &str = include_str!("numbers.tsv");

/// Longest program the kernel takes. Source: linux/bpf_common.h, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// What is wrong with a policy, or with writing the filter.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("cannot read seccomp policy `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    /// Not TOML, an unknown key, a missing `why`, a value of the wrong kind.
    #[error("seccomp policy does not have the expected form")]
    Form { source: toml::de::Error },
    #[error("seccomp policy line for `{syscall}` has an empty `why` or `unseen`")]
    NoReason { syscall: String },
    #[error("seccomp policy names `{syscall}`, which no kernel has")]
    UnknownSyscall { syscall: String },
    /// Refused twice, allowed with the same arguments twice, or allowed without and with arguments.
    #[error("seccomp policy has a redundant line for `{syscall}`")]
    Duplicate { syscall: String },
    #[error("seccomp policy both allows and refuses `{syscall}`")]
    Contradiction { syscall: String },
    #[error("seccomp policy line for `{syscall}`: {problem}")]
    Condition { syscall: String, problem: &'static str },
    #[error("seccomp policy line for `{syscall}` has more comparisons than a jump can cross")]
    TooManyComparisons { syscall: String },
    #[error("seccomp filter has {length} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong { length: usize },
    #[error("no syscall numbers for architecture `{arch}`; have: x86_64, aarch64")]
    Architecture { arch: String },
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: std::io::Error },
}

/// A processor architecture that the filter can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The value that the kernel puts into `seccomp_data.arch`. Source: linux/audit.h.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Name and number of each syscall of this architecture.
    pub fn numbers(self) -> BTreeMap<&'static str, u32> {
        let column = match self {
            Self::X86_64 => 1,
            Self::Aarch64 => 2,
        };
        NUMBERS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let fields: Vec<&str> = line.split('\t').collect();
                Some((*fields.first()?, fields.get(column)?.parse().ok()?))
            })
            .collect()
    }
}

impl std::str::FromStr for Arch {
    type Err = PolicyError;

    /// Takes cargo's names (`CARGO_CFG_TARGET_ARCH`).
    fn from_str(arch: &str) -> Result<Self, PolicyError> {
        match arch {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            _ => Err(PolicyError::Architecture { arch: arch.into() }),
        }
    }
}

/// The policy file: which calls pass, which do not, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub allow: Vec<Allow>,
    pub refuse: Vec<Refuse>,
}

/// One way for a call to pass. Several lines for one call are alternatives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    pub syscall: String,
    pub why: String,
    /// All of them must hold; none: the call passes whatever its arguments.
    #[serde(default)]
    pub args: Vec<Condition>,
    /// Why the line stays though no program of the recorded suite (`seen.txt`) makes the call.
    pub unseen: Option<String>,
}

/// A call that never passes, and what its caller is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    pub syscall: String,
    pub why: String,
    #[serde(default)]
    pub errno: Errno,
}

/// What a refused call returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Errno {
    /// The caller may not.
    #[default]
    #[serde(rename = "EPERM")]
    Eperm,
    /// The kernel has no such call: libraries then take their older way.
    #[serde(rename = "ENOSYS")]
    Enosys,
}

impl Errno {
    fn action(self) -> u32 {
        SECCOMP_RET_ERRNO
            | match self {
                Self::Eperm => 1,
                Self::Enosys => 38,
            }
    }
}

/// A comparison of one argument with numbers. The kernel passes no memory to a filter, so what a
/// pointer points to cannot be looked at.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// 0 is the first argument, 5 the last.
    index: u8,
    op: Op,
    /// One number, or a list of which one must match.
    value: Values,
    #[serde(default)]
    mask: Option<i64>,
    width: Width,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Op {
    /// Equal to `value`, or to one of them.
    Eq,
    /// Different from `value`, or from all of them.
    Ne,
    /// Equal to `value`, or to one of them, in the bits of `mask`.
    MaskedEq,
}

#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Values {
    One(i64),
    Any(Vec<i64>),
}

impl Values {
    fn list(&self) -> Vec<i64> {
        match self {
            Self::One(value) => vec![*value],
            Self::Any(values) => values.clone(),
        }
    }
}

/// How many bits of the argument the kernel reads. Comparing more than it reads leaves a hole: with
/// a 64-bit comparison `socket(AF_VSOCK | 1 << 32)` differs from `AF_VSOCK` and opens one.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(try_from = "u8")]
enum Width {
    Bits32,
    Bits64,
}

impl TryFrom<u8> for Width {
    type Error = &'static str;

    fn try_from(bits: u8) -> Result<Self, &'static str> {
        match bits {
            32 => Ok(Self::Bits32),
            64 => Ok(Self::Bits64),
            _ => Err("`width` is 32 or 64"),
        }
    }
}

/// One BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl Instruction {
    fn bytes(self) -> [u8; 8] {
        let (code, k) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [code[0], code[1], self.jt, self.jf, k[0], k[1], k[2], k[3]]
    }
}

/// A finished filter.
#[derive(Debug)]
pub struct Compiled {
    pub program: Vec<Instruction>,
    /// Every call of the architecture with what becomes of it, for `kennel doctor` and the manual.
    pub verdicts: BTreeMap<&'static str, Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// Allowed with some arguments, else EPERM.
    ByArguments,
    Refuse(Errno),
}

// Source: linux/bpf_common.h.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Source: linux/seccomp.h.
const SECCOMP_RET_KILL_PROCESS: u32 = 0x8000_0000;
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_ARGS: u32 = 16;

/// Reads a policy and checks what does not depend on an architecture.
///
/// # Errors
/// Every variant of [`PolicyError`] up to `Condition`.
pub fn parse(policy: &str) -> Result<Policy, PolicyError> {
    let policy: Policy = toml::from_str(policy).map_err(|source| PolicyError::Form { source })?;
    let known: BTreeSet<&str> =
        Arch::X86_64.numbers().into_keys().chain(Arch::Aarch64.numbers().into_keys()).collect();
    let lines = policy
        .allow
        .iter()
        .map(|line| (&line.syscall, &line.why))
        .chain(policy.refuse.iter().map(|line| (&line.syscall, &line.why)));
    for (syscall, why) in lines {
        let syscall = syscall.clone();
        if why.trim().is_empty() {
            return Err(PolicyError::NoReason { syscall });
        }
        if !known.contains(syscall.as_str()) {
            return Err(PolicyError::UnknownSyscall { syscall });
        }
    }
    let mut allowed: BTreeMap<&str, Vec<&[Condition]>> = BTreeMap::new();
    for Allow { syscall, args, unseen, .. } in &policy.allow {
        if unseen.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(PolicyError::NoReason { syscall: syscall.clone() });
        }
        args.iter().try_for_each(|condition| condition.check(syscall))?;
        let alternatives = allowed.entry(syscall).or_default();
        alternatives.push(args);
        let covered = alternatives.len() > 1 && alternatives.iter().any(|args| args.is_empty());
        let repeated = alternatives.iter().filter(|other| *other == args).count() > 1;
        if covered || repeated {
            return Err(PolicyError::Duplicate { syscall: syscall.clone() });
        }
    }
    let mut refused = BTreeSet::new();
    for Refuse { syscall, .. } in &policy.refuse {
        if allowed.contains_key(syscall.as_str()) {
            return Err(PolicyError::Contradiction { syscall: syscall.clone() });
        }
        if !refused.insert(syscall) {
            return Err(PolicyError::Duplicate { syscall: syscall.clone() });
        }
    }
    Ok(policy)
}

/// Compiles a policy for one architecture.
///
/// Calls that the policy names and the architecture lacks are left out (`open` on aarch64, where
/// libc uses `openat`). Calls of the architecture that the policy does not name answer EPERM;
/// numbers that the architecture does not have, and those of the x32 ABI, answer ENOSYS.
///
/// # Errors
/// See [`PolicyError`].
pub fn compile(policy: &str, arch: Arch) -> Result<Compiled, PolicyError> {
    let policy = parse(policy)?;
    let numbers = arch.numbers();

    let mut verdicts: BTreeMap<&'static str, Verdict> = BTreeMap::new();
    let mut ranges = Ranges::new(Leaf::Return(Errno::Enosys.action()));
    for (name, number) in numbers {
        let alternatives: Vec<&Allow> =
            policy.allow.iter().filter(|line| line.syscall == name).collect();
        let (verdict, leaf) = if alternatives.is_empty() {
            let refusal = policy.refuse.iter().find(|line| line.syscall == name);
            let errno = refusal.map_or(Errno::Eperm, |line| line.errno);
            (Verdict::Refuse(errno), Leaf::Return(errno.action()))
        } else if alternatives.iter().all(|line| line.args.is_empty()) {
            (Verdict::Allow, Leaf::Return(SECCOMP_RET_ALLOW))
        } else {
            (Verdict::ByArguments, Leaf::Check(argument_check(name, &alternatives)?))
        };
        verdicts.insert(name, verdict);
        ranges.set(number, leaf);
    }

    let mut program = vec![
        statement(LOAD, DATA_ARCH),
        jump(JUMP_EQ, arch.audit(), 1, 0),
        statement(RETURN, SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, DATA_NR),
    ];
    program.extend(search_tree(&ranges.finish()));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(PolicyError::TooLong { length: program.len() });
    }
    Ok(Compiled { program, verdicts })
}

/// Compiles the policy for the target of a build: `seccomp.bpf` (the filter, 8 bytes an instruction,
/// byte order of the machine) and `seccomp.txt` (a line `NAME VERDICT` a call) in `out_dir`.
///
/// # Errors
/// See [`PolicyError`].
pub fn filters_for_build(policy: &Path, out_dir: &Path, arch: Arch) -> Result<(), PolicyError> {
    let text = std::fs::read_to_string(policy)
        .map_err(|source| PolicyError::Read { path: policy.into(), source })?;
    let compiled = compile(&text, arch)?;
    let bytes: Vec<u8> = compiled.program.iter().flat_map(|one| one.bytes()).collect();
    let names: String = compiled
        .verdicts
        .iter()
        .map(|(name, verdict)| {
            let verdict = match verdict {
                Verdict::Allow => "allow",
                Verdict::ByArguments => "arguments",
                Verdict::Refuse(Errno::Eperm) => "EPERM",
                Verdict::Refuse(Errno::Enosys) => "ENOSYS",
            };
            format!("{name} {verdict}\n")
        })
        .collect();
    for (file, content) in [("seccomp.bpf", bytes), ("seccomp.txt", names.into_bytes())] {
        let path = out_dir.join(file);
        std::fs::write(&path, content).map_err(|source| PolicyError::Write { path, source })?;
    }
    Ok(())
}

/// What happens to the numbers of one range.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf {
    Return(u32),
    Check(Vec<Instruction>),
}

/// All numbers from 0 to `u32::MAX`, cut where the outcome changes. Built in rising order.
struct Ranges {
    outside: Leaf,
    by_number: BTreeMap<u32, Leaf>,
}

impl Ranges {
    fn new(outside: Leaf) -> Self {
        Self { outside, by_number: BTreeMap::new() }
    }

    fn set(&mut self, number: u32, leaf: Leaf) {
        self.by_number.insert(number, leaf);
    }

    /// First number and outcome of each range; the first starts at 0, the last has no end.
    fn finish(self) -> Vec<(u32, Leaf)> {
        let mut ranges: Vec<(u32, Leaf)> = Vec::new();
        let mut push = |start: u32, leaf: Leaf| {
            if ranges.last().is_none_or(|(_, last)| *last != leaf) {
                ranges.push((start, leaf));
            }
        };
        let mut next = 0;
        for (number, leaf) in self.by_number {
            if number > next {
                push(next, self.outside.clone());
            }
            push(number, leaf);
            next = number + 1;
        }
        push(next, self.outside);
        ranges
    }
}

/// Binary search with the number in the accumulator. Every path ends in a return.
fn search_tree(ranges: &[(u32, Leaf)]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [(_, Leaf::Return(action))] => vec![statement(RETURN, *action)],
        [(_, Leaf::Check(program))] => program.clone(),
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let pivot = upper[0].0;
            let (lower, upper) = (search_tree(lower), search_tree(upper));
            // A conditional jump reaches 255 instructions, the unconditional one all of them.
            let mut program = match u8::try_from(lower.len()) {
                Ok(distance) => vec![jump(JUMP_GE, pivot, distance, 0)],
                Err(_) => {
                    vec![jump(JUMP_GE, pivot, 0, 1), statement(JUMP, length_u32(&lower))]
                }
            };
            program.extend(lower);
            program.extend(upper);
            program
        }
    }
}

/// The alternatives of one call, each tried in turn, then EPERM.
fn argument_check(name: &str, lines: &[&Allow]) -> Result<Vec<Instruction>, PolicyError> {
    let mut program = Vec::new();
    for line in lines {
        // Instructions still without their way out to the next alternative: it lies behind this
        // one's return, whose place is known when all conditions are laid down.
        let mut alternative: Vec<Draft> = Vec::new();
        for condition in &line.args {
            condition.draft(&mut alternative);
        }
        let end = alternative.len() + 1; // the return behind the conditions
        for (place, draft) in alternative.iter().enumerate() {
            let reach = |exit: Exit| {
                let distance = match exit {
                    Exit::Skip(count) => count,
                    Exit::Fail => end - place - 1,
                };
                u8::try_from(distance)
                    .map_err(|_| PolicyError::TooManyComparisons { syscall: name.into() })
            };
            program.push(match *draft {
                Draft::Plain(instruction) => instruction,
                Draft::Compare { value, equal, unequal } => {
                    jump(JUMP_EQ, value, reach(equal)?, reach(unequal)?)
                }
            });
        }
        program.push(statement(RETURN, SECCOMP_RET_ALLOW));
    }
    program.push(statement(RETURN, Errno::Eperm.action()));
    Ok(program)
}

/// An instruction of an alternative, before distances are known.
#[derive(Clone, Copy)]
enum Draft {
    Plain(Instruction),
    Compare { value: u32, equal: Exit, unequal: Exit },
}

#[derive(Clone, Copy)]
enum Exit {
    /// Goes on behind so many further instructions.
    Skip(usize),
    /// This alternative does not hold.
    Fail,
}

impl Condition {
    fn check(&self, syscall: &str) -> Result<(), PolicyError> {
        let values = self.value.list();
        let masked = self.op == Op::MaskedEq;
        let problem = if self.index > 5 {
            "`index` is 0 to 5"
        } else if masked != self.mask.is_some() {
            "`mask` belongs to `masked_eq`, and only there"
        } else if values.is_empty() {
            "`value` is an empty list"
        } else if self.width == Width::Bits64 && (values.len() > 1 || self.op != Op::Eq) {
            "64 bits can only be compared by `eq` with one value"
        } else if self.width == Width::Bits32
            && values.iter().chain(&self.mask).any(|number| u32::try_from(*number).is_err())
        {
            "a number does not fit in 32 bits"
        } else if self.mask.is_some_and(|mask| values.iter().any(|value| value & !mask != 0)) {
            "a value has bits outside `mask` and could never match"
        } else {
            return Ok(());
        };
        Err(PolicyError::Condition { syscall: syscall.into(), problem })
    }

    /// Appends the comparison; it goes on behind its own last instruction where it holds.
    fn draft(&self, to: &mut Vec<Draft>) {
        // Both architectures are little-endian: the low half of an argument comes first.
        let low = DATA_ARGS + 8 * u32::from(self.index);
        let values = self.value.list();
        if self.width == Width::Bits64 {
            let (upper, lower) = halves(values[0]);
            for (offset, value) in [(low + 4, upper), (low, lower)] {
                to.push(Draft::Plain(statement(LOAD, offset)));
                to.push(Draft::Compare { value, equal: Exit::Skip(0), unequal: Exit::Fail });
            }
            return;
        }
        to.push(Draft::Plain(statement(LOAD, low)));
        if let Some(mask) = self.mask {
            to.push(Draft::Plain(statement(AND, halves(mask).1)));
        }
        let last = values.len() - 1;
        for (place, value) in values.iter().enumerate() {
            let (equal, unequal) = match self.op {
                Op::Ne => (Exit::Fail, Exit::Skip(0)),
                Op::Eq | Op::MaskedEq if place == last => (Exit::Skip(0), Exit::Fail),
                Op::Eq | Op::MaskedEq => (Exit::Skip(last - place), Exit::Skip(0)),
            };
            to.push(Draft::Compare { value: halves(*value).1, equal, unequal });
        }
    }
}

/// Upper and lower 32 bits.
fn halves(value: i64) -> (u32, u32) {
    let bytes = value.to_be_bytes();
    let half = |from: usize| {
        u32::from_be_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
    };
    (half(0), half(4))
}

fn length_u32(program: &[Instruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX) // far above what `compile` lets pass
}

fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = include_str!("policy.toml");
    /// Calls that the recorded programs made, one a line.
    const SEEN: &str = include_str!("seen.txt");

    const KILLED: u32 = SECCOMP_RET_KILL_PROCESS;
    const ALLOWED: u32 = SECCOMP_RET_ALLOW;
    const EPERM: u32 = SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = SECCOMP_RET_ERRNO | 38;

    /// What the kernel would do with the program: seccomp_data in, the returned action out.
    fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            DATA_NR => number,
            DATA_ARCH => arch,
            _ => {
                let (place, upper) = ((offset - DATA_ARGS) / 8, !offset.is_multiple_of(8));
                let bytes = args[place as usize].to_le_bytes();
                let from = if upper { 4 } else { 0 };
                u32::from_le_bytes(bytes[from..from + 4].try_into().expect("four bytes"))
            }
        };
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    accumulator = word(k);
                    continue;
                }
                AND => {
                    accumulator &= k;
                    continue;
                }
                RETURN => return k,
                JUMP => {
                    at += k as usize;
                    continue;
                }
                JUMP_EQ => accumulator == k,
                JUMP_GE => accumulator >= k,
                other => panic!("instruction {other:#x} at {at}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    /// The policy read the slow and plain way, as the oracle for the program.
    fn expected(policy: &Policy, name: &str, args: [u64; 6]) -> u32 {
        let holds = |condition: &Condition| {
            let argument = args[usize::from(condition.index)];
            let argument = match condition.width {
                Width::Bits32 => argument & 0xffff_ffff,
                Width::Bits64 => argument,
            };
            let argument = argument & condition.mask.map_or(u64::MAX, i64::cast_unsigned);
            let found =
                condition.value.list().iter().any(|value| value.cast_unsigned() == argument);
            found != (condition.op == Op::Ne)
        };
        if policy.allow.iter().any(|l| l.syscall == name && l.args.iter().all(holds)) {
            return ALLOWED;
        }
        policy.refuse.iter().find(|l| l.syscall == name).map_or(EPERM, |l| l.errno.action())
    }

    fn on_x86_64(name: &str, args: [u64; 6]) -> u32 {
        let compiled = compile(POLICY, Arch::X86_64).expect("the policy compiles");
        run(&compiled.program, Arch::X86_64.audit(), Arch::X86_64.numbers()[name], args)
    }

    fn message(policy: &str) -> String {
        parse(policy).expect_err("a faulty policy").to_string()
    }

    #[test]
    fn program_and_policy_agree_on_every_number() {
        let policy = parse(POLICY).expect("the policy parses");
        // Every number that some condition names, its neighbours, and all of that with high bits.
        let mut values: BTreeSet<u64> = BTreeSet::from([0, u64::MAX, 1 << 31, 1 << 32, 1 << 63]);
        for condition in policy.allow.iter().flat_map(|line| &line.args) {
            for value in condition.value.list().into_iter().chain(condition.mask) {
                let value = value.cast_unsigned();
                values.extend([value, value.wrapping_add(1), value | 1 << 32, value | 0x800]);
            }
        }
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let program = compile(POLICY, arch).expect("the policy compiles").program;
            let numbers = arch.numbers();
            let names: BTreeMap<u32, &str> =
                numbers.iter().map(|(name, nr)| (*nr, *name)).collect();
            assert_eq!(names.len(), numbers.len(), "two calls with one number");
            for number in (0..1024).chain([0x4000_0000, 0x4000_0027, u32::MAX]) {
                let conditions: Vec<&Condition> = names
                    .get(&number)
                    .iter()
                    .flat_map(|name| policy.allow.iter().filter(|line| line.syscall == **name))
                    .flat_map(|line| &line.args)
                    .collect();
                let mut tries = vec![[0; 6]];
                // Each argument that is looked at, over all values, beside what else its line wants.
                for line in policy.allow.iter().filter(|l| names.get(&number) == Some(&&*l.syscall))
                {
                    let mut fitting = [0; 6];
                    for condition in &line.args {
                        fitting[usize::from(condition.index)] =
                            condition.value.list()[0].cast_unsigned();
                    }
                    tries.push(fitting);
                    for condition in &conditions {
                        for value in &values {
                            let mut args = fitting;
                            args[usize::from(condition.index)] = *value;
                            tries.push(args);
                        }
                    }
                }
                for args in tries {
                    let wanted =
                        names.get(&number).map_or(ENOSYS, |name| expected(&policy, name, args));
                    let got = run(&program, arch.audit(), number, args);
                    assert_eq!(got, wanted, "{arch:?} call {number} {args:x?}");
                }
                assert_eq!(run(&program, 0x4000_0003, number, [0; 6]), KILLED, "int 0x80");
            }
        }
    }

    #[test]
    fn arguments_are_compared_in_the_width_that_the_kernel_reads() {
        const HIGH: u64 = 1 << 32;
        for (what, name, args, wanted) in [
            ("AF_UNIX", "socket", [1, 1, 0, 0, 0, 0], ALLOWED),
            (
                "AF_UNIX, high bits: the kernel sees AF_UNIX",
                "socket",
                [1 | HIGH, 1, 0, 0, 0, 0],
                ALLOWED,
            ),
            ("AF_VSOCK", "socket", [40, 1, 0, 0, 0, 0], EPERM),
            ("AF_VSOCK, high bits", "socket", [40 | HIGH, 1, 0, 0, 0, 0], EPERM),
            ("AF_ALG", "socket", [38, 5, 0, 0, 0, 0], EPERM),
            ("AF_PACKET", "socket", [17, 3, 0, 0, 0, 0], EPERM),
            ("NETLINK_ROUTE", "socket", [16, 3, 0, 0, 0, 0], ALLOWED),
            ("NETLINK_AUDIT", "socket", [16, 3, 9, 0, 0, 0], EPERM),
            ("NETLINK_AUDIT, high bits", "socket", [16 | HIGH, 3, 9 | HIGH, 0, 0, 0], EPERM),
            ("TCP, non-blocking, close on exec", "socket", [2, 0o2004001, 6, 0, 0, 0], ALLOWED),
            ("UDP over IPv6", "socket", [10, 2, 17, 0, 0, 0], ALLOWED),
            ("raw IP", "socket", [2, 3, 255, 0, 0, 0], EPERM),
            ("SCTP", "socket", [2, 1, 132, 0, 0, 0], EPERM),
            ("multipath TCP", "socket", [2, 1, 262, 0, 0, 0], EPERM),
            ("TIOCSTI", "ioctl", [0, 0x5412, 0, 0, 0, 0], EPERM),
            ("TIOCSTI, high bits", "ioctl", [0, 0x5412 | HIGH, 0, 0, 0, 0], EPERM),
            ("TIOCLINUX", "ioctl", [0, 0x541c, 0, 0, 0, 0], EPERM),
            ("TCGETS", "ioctl", [0, 0x5401, 0, 0, 0, 0], ALLOWED),
            ("a thread", "clone", [0x3d0f00, 0, 0, 0, 0, 0], ALLOWED),
            ("CLONE_NEWUSER", "clone", [0x1000_0011, 0, 0, 0, 0, 0], EPERM),
            ("CLONE_NEWUSER, high bits", "clone", [0x1000_0011 | HIGH, 0, 0, 0, 0, 0], EPERM),
            ("clone3", "clone3", [0; 6], ENOSYS),
            ("personality, asked", "personality", [0xffff_ffff, 0, 0, 0, 0, 0], ALLOWED),
            ("personality, asked by -1", "personality", [u64::MAX, 0, 0, 0, 0, 0], ALLOWED),
            ("no address randomisation", "personality", [0x4_0000, 0, 0, 0, 0, 0], EPERM),
            ("another's limit, set", "prlimit64", [7, 0, 0x1000, 0, 0, 0], EPERM),
            ("another's limit, pointer with low half 0", "prlimit64", [7, 0, HIGH, 0, 0, 0], EPERM),
            ("another's limit, read", "prlimit64", [7, 0, 0, 0x1000, 0, 0], ALLOWED),
            ("a device node", "mknod", [0, 0o020_666, 0, 0, 0, 0], EPERM),
            ("a named pipe", "mknod", [0, 0o010_666, 0, 0, 0, 0], ALLOWED),
            ("huge pages", "mmap", [0, 0, 3, 0x40022, 0, 0], EPERM),
            ("MADV_MERGEABLE", "madvise", [0, 0, 12, 0, 0, 0], EPERM),
            ("MADV_MERGEABLE, high bits", "madvise", [0, 0, 12 | HIGH, 0, 0, 0], EPERM),
            ("a seccomp listener", "seccomp", [1, 8, 0, 0, 0, 0], EPERM),
            ("PR_SET_MM", "prctl", [35, 0, 0, 0, 0, 0], EPERM),
            ("PR_CAP_AMBIENT_RAISE", "prctl", [47, 2, 21, 0, 0, 0], EPERM),
        ] {
            assert_eq!(on_x86_64(name, args), wanted, "{what}");
        }
    }

    #[test]
    fn every_call_has_a_line() {
        let policy = parse(POLICY).expect("the policy parses");
        let allowed = policy.allow.iter().map(|line| &line.syscall);
        let decided: BTreeSet<&String> =
            allowed.chain(policy.refuse.iter().map(|line| &line.syscall)).collect();
        for name in Arch::X86_64.numbers().keys().chain(Arch::Aarch64.numbers().keys()) {
            assert!(decided.contains(&name.to_string()), "`{name}` has no line in policy.toml");
        }
    }

    #[test]
    fn every_allowed_call_is_used_or_says_why_it_stays() {
        let seen: BTreeSet<&str> = SEEN.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(seen.len() > 100, "seen.txt is a recording");
        let policy = parse(POLICY).expect("the policy parses");
        let mut unused: BTreeMap<&str, bool> = BTreeMap::new();
        for line in &policy.allow {
            *unused.entry(&line.syscall).or_default() |= line.unseen.is_some();
        }
        for (name, excused) in unused {
            // A call with several lines may keep one for arguments that the recording lacks.
            let several = policy.allow.iter().filter(|line| line.syscall == name).count() > 1;
            match (seen.contains(name), excused) {
                (false, false) => panic!("no recorded program needs `{name}` any more"),
                (true, true) if !several => panic!("`{name}` is used: drop its `unseen`"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_line_needs_a_reason() {
        let missing = message("allow = [{ syscall = \"read\" }]\nrefuse = []");
        assert_eq!(missing, "seccomp policy does not have the expected form");
        let source = parse("allow = [{ syscall = \"read\" }]\nrefuse = []").expect_err("no why");
        let source = std::error::Error::source(&source).expect("toml's error").to_string();
        assert!(source.contains("missing field `why`"), "{source}");
        assert_eq!(
            message("allow = [{ syscall = \"read\", why = \" \" }]\nrefuse = []"),
            "seccomp policy line for `read` has an empty `why` or `unseen`"
        );
        assert_eq!(
            message("allow = [{ syscall = \"read\", why = \"x\", unseen = \"\" }]\nrefuse = []"),
            "seccomp policy line for `read` has an empty `why` or `unseen`"
        );
        assert_eq!(
            message("allow = []\nrefuse = [{ syscall = \"bpf\", why = \"\" }]"),
            "seccomp policy line for `bpf` has an empty `why` or `unseen`"
        );
    }

    #[test]
    fn a_line_is_there_once_and_names_a_call() {
        let line = "{ syscall = \"read\", why = \"x\" }";
        let narrow = "{ syscall = \"read\", why = \"x\", args = [{ index = 0, op = \"eq\", value = 1, width = 32 }] }";
        let redundant = "seccomp policy has a redundant line for `read`";
        for (allow, refuse, wanted) in [
            (format!("{line}, {line}"), String::new(), redundant),
            (format!("{line}, {narrow}"), String::new(), redundant),
            (format!("{narrow}, {line}"), String::new(), redundant),
            (format!("{narrow}, {narrow}"), String::new(), redundant),
            (String::new(), format!("{line}, {line}"), redundant),
            (line.into(), line.into(), "seccomp policy both allows and refuses `read`"),
            (
                line.replace("read", "raed"),
                String::new(),
                "seccomp policy names `raed`, which no kernel has",
            ),
            (
                String::new(),
                line.replace("read", "raed"),
                "seccomp policy names `raed`, which no kernel has",
            ),
        ] {
            assert_eq!(message(&format!("allow = [{allow}]\nrefuse = [{refuse}]")), wanted);
        }
    }

    #[test]
    fn a_condition_that_could_not_mean_anything_is_refused() {
        for (condition, problem) in [
            ("index = 6, op = \"eq\", value = 1, width = 32", "`index` is 0 to 5"),
            (
                "index = 0, op = \"eq\", value = 1, mask = 1, width = 32",
                "`mask` belongs to `masked_eq`, and only there",
            ),
            (
                "index = 0, op = \"masked_eq\", value = 1, width = 32",
                "`mask` belongs to `masked_eq`, and only there",
            ),
            (
                "index = 0, op = \"masked_eq\", value = 2, mask = 1, width = 32",
                "a value has bits outside `mask` and could never match",
            ),
            (
                "index = 0, op = \"eq\", value = 0x100000000, width = 32",
                "a number does not fit in 32 bits",
            ),
            ("index = 0, op = \"eq\", value = -1, width = 32", "a number does not fit in 32 bits"),
            ("index = 0, op = \"eq\", value = [], width = 32", "`value` is an empty list"),
            (
                "index = 0, op = \"ne\", value = 1, width = 64",
                "64 bits can only be compared by `eq` with one value",
            ),
        ] {
            let policy = format!(
                "allow = [{{ syscall = \"read\", why = \"x\", args = [{{ {condition} }}] }}]\nrefuse = []"
            );
            assert_eq!(message(&policy), format!("seccomp policy line for `read`: {problem}"));
        }
        for condition in [
            "index = 0, op = \"eq\", value = 1",
            "index = 0, op = \"eq\", value = 1, width = 16",
            "index = 0, op = \"lt\", value = 1, width = 32",
        ] {
            let policy = format!(
                "allow = [{{ syscall = \"read\", why = \"x\", args = [{{ {condition} }}] }}]\nrefuse = []"
            );
            assert_eq!(message(&policy), "seccomp policy does not have the expected form");
        }
    }

    #[test]
    fn a_long_list_of_values_is_an_error_and_not_a_wrong_jump() {
        let values: Vec<String> = (0..300).map(|value: u32| value.to_string()).collect();
        let policy = format!(
            "allow = [{{ syscall = \"read\", why = \"x\", args = [{{ index = 0, op = \"eq\", value = [{}], width = 32 }}] }}]\nrefuse = []",
            values.join(",")
        );
        let error = compile(&policy, Arch::X86_64).expect_err("too many").to_string();
        assert_eq!(
            error,
            "seccomp policy line for `read` has more comparisons than a jump can cross"
        );
    }

    #[test]
    fn a_build_finds_the_filter_and_the_verdicts_in_its_folder() {
        let out = std::env::temp_dir().join(format!("kennel-seccomp-{}", std::process::id()));
        std::fs::create_dir_all(&out).expect("a folder");
        let policy = out.join("policy.toml");
        std::fs::write(&policy, POLICY).expect("a file");
        filters_for_build(&policy, &out, Arch::Aarch64).expect("the policy compiles");
        let compiled = compile(POLICY, Arch::Aarch64).expect("the policy compiles");
        let filter = std::fs::read(out.join("seccomp.bpf")).expect("the filter");
        assert_eq!(filter.len(), 8 * compiled.program.len());
        assert_eq!(filter[..8], compiled.program[0].bytes());
        let verdicts = std::fs::read_to_string(out.join("seccomp.txt")).expect("the verdicts");
        assert_eq!(verdicts.lines().count(), compiled.verdicts.len());
        for line in ["read allow", "socket arguments", "bpf EPERM", "clone3 ENOSYS"] {
            assert!(verdicts.lines().any(|found| found == line), "{line}");
        }
        assert!(!verdicts.contains("\nopen "), "aarch64 has no `open`");

        let missing = filters_for_build(&out.join("none"), &out, Arch::Aarch64);
        let missing = missing.expect_err("no policy").to_string();
        assert_eq!(missing, format!("cannot read seccomp policy `{}`", out.join("none").display()));
        let nowhere = filters_for_build(&policy, &out.join("none"), Arch::Aarch64);
        let nowhere = nowhere.expect_err("no folder").to_string();
        assert_eq!(nowhere, format!("cannot write `{}`", out.join("none/seccomp.bpf").display()));
        std::fs::remove_dir_all(&out).expect("the folder goes");
        let arch = "mips".parse::<Arch>().expect_err("no numbers").to_string();
        assert_eq!(arch, "no syscall numbers for architecture `mips`; have: x86_64, aarch64");
    }

    #[test]
    fn the_search_stays_short() {
        let program = compile(POLICY, Arch::X86_64).expect("the policy compiles").program;
        assert!(program.len() < 1000, "{} instructions", program.len());
    }
}
