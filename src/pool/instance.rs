//! One sandbox's life with its function.
//!
//! States: `(Ready → Claimed →) Initialising → Idle(frozen) ⇄ Busy → Dead`, owned by [`Instance`] alone; the first two are
//! those of a sandbox that was made ahead, with its language up or held before exec. An instance takes one invocation at a time; what ends it is told as an [`Outcome`].

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::launcher::protocol::{Claim, Launch, Tree};
use crate::launcher::{Handle, Launcher, LauncherError};
use crate::logs::{Capture, Sink};
use crate::runtime_api::{self, Answer, Event, Invocation, Session};
use crate::sandbox::{MemoryMib, MilliCpu, RPC_PORT, Start, Usage, decode_status};
use crate::sys;
use crate::sys::process::ExitStatus;

/// How long a function may take to load before its first event. Source: AWS, "Lambda execution environment".
pub const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one that is restored may take to ask what it is for.
const TELL_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its runtime is up, or held just before its start, and waits for what it is for.
    Ready,
    /// It is told.
    Claimed,
    /// The program runs; its first word is awaited.
    Initialising,
    Idle,
    Busy,
    Dead,
}

#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    /// A runtime that was started ahead did not come up.
    #[error("the runtime did not start ahead of its function: {}", if said.is_empty() { "it said nothing" } else { said })]
    NotReady { said: String },
    #[error("cannot watch the sandbox")]
    Watch { source: std::io::Error },
}

/// How the init phase ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    Done,
    /// The bootstrap said so; the body is the function's error.
    Failed {
        error_type: String,
        body: Bytes,
    },
    Exited(Exit),
    TimedOut,
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answered(Answered),
    Exited(Exit),
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    Response(Bytes),
    /// With an error that came after bytes of a stream.
    Streamed {
        body: Bytes,
        error: Option<(String, Bytes)>,
    },
    Error {
        error_type: String,
        body: Bytes,
    },
}

/// The runtime's process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Status(ExitStatus),
    /// Everything in the sandbox was killed at once, its init too.
    Killed,
}

/// A sandbox with its function.
#[derive(Debug)]
pub struct Instance<S> {
    pub state: State,
    launcher: Arc<Launcher>,
    handle: Handle,
    status: AsyncFd<OwnedFd>,
    session: Arc<Session>,
    events: mpsc::Receiver<Event>,
    pub log: Capture<S>,
    /// When the launch was asked for.
    pub started: Instant,
    function_cpu: MilliCpu,
    /// Whether the function's share of CPU holds already; the init phase has a whole core.
    cpu_set: bool,
    frozen: bool,
    doors: JoinSet<()>,
    /// Until there is a program that may listen on it.
    rpc: Option<OwnedFd>,
    held: bool,
    /// [`Self::release`] was called: the launcher removes it.
    released: bool,
}

/// What an instance that was made ahead is told with its claim.
#[derive(Debug)]
pub enum Told {
    /// For a runtime that is up: the JSON that its bootstrap gets.
    Environment(Bytes),
    /// For one that is held: what it is.
    Start(Start),
    /// For one that is held: the image from which it goes on, and what its bootstrap gets then.
    Image { image: u32, start: Start, environment: Bytes },
}

/// What an instance needs beside the launch itself.
#[derive(Debug)]
pub struct Wanted {
    pub launch: Launch,
    /// The function's CPU, from its first event on.
    pub function_cpu: MilliCpu,
}

impl<S: Sink> Instance<S> {
    /// Has the sandbox made and opens its Runtime API. Does not wait for the function to load.
    ///
    /// # Errors
    /// The launcher's refusal.
    pub async fn start(
        launcher: Arc<Launcher>,
        wanted: Wanted,
        sink: S,
    ) -> Result<Self, PoolError> {
        let mut instance = Self::start_without_log(launcher, wanted).await?;
        instance.log.set_sink(sink);
        Ok(instance)
    }

    /// Has a sandbox made whose runtime starts without code, and waits until it is up, for at most `limit`; or one whose
    /// program is held, which is ready at once.
    ///
    /// # Errors
    /// The launcher's refusal; [`PoolError::NotReady`].
    pub async fn start_ahead(
        launcher: Arc<Launcher>,
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Self, PoolError> {
        let mut instance = Self::start_without_log(launcher, wanted).await?;
        if instance.held {
            instance.state = State::Ready;
            return Ok(instance);
        }
        let ready = async {
            tokio::select! {
                biased;
                event = instance.events.recv() => event == Some(Event::Waiting),
                _ = exited(&instance.status) => false,
            }
        };
        if tokio::time::timeout(limit, ready).await == Ok(true) {
            instance.state = State::Ready;
            return Ok(instance);
        }
        instance.log.drain();
        let said = String::from_utf8_lossy(&instance.log.tail()).trim().to_owned();
        instance.release().await?;
        Err(PoolError::NotReady { said })
    }

    /// Has a sandbox made whose runtime starts without code and says nothing: it stops for [`Self::image`].
    ///
    /// # Errors
    /// The launcher's refusal.
    pub async fn start_unheard(launcher: Arc<Launcher>, wanted: Wanted) -> Result<Self, PoolError> {
        Self::start_without_log(launcher, wanted).await
    }

    /// Has the image of its program taken; how long it is. It is of no other use then.
    ///
    /// # Errors
    /// Why there is none, with what the program said.
    pub async fn image(&mut self, image: u32) -> Result<u64, PoolError> {
        let imaged = self.launcher.image(self.handle.id, image).await;
        self.log.drain();
        let said = String::from_utf8_lossy(&self.log.tail()).trim().to_owned();
        match imaged {
            Err(LauncherError::Refused { chain, .. }) if !said.is_empty() => {
                Err(PoolError::NotReady { said: format!("{}: {said}", chain.join(": ")) })
            }
            other => Ok(other?),
        }
    }

    /// Gives an instance that was started ahead its code, its memory, its environment and its log; of a held one, the
    /// program runs then ([`Self::exec_failed`]). Belongs to one version from here on. The next step is [`Self::init`].
    ///
    /// # Errors
    /// The launcher's refusal; the instance is of no use then.
    pub async fn claim(
        &mut self,
        code: Tree,
        layers: Vec<Tree>,
        memory: MemoryMib,
        told: Told,
        sink: S,
    ) -> Result<(), PoolError> {
        self.state = State::Claimed;
        self.started = Instant::now();
        self.freeze(false);
        self.log.set_sink(sink);
        self.function_cpu = MilliCpu::for_memory(memory);
        // It was made with the least memory, and so with no more than a core.
        let cpu = MilliCpu::while_initialising(memory);
        if cpu > MilliCpu::ONE_CORE
            && let Err(error) = self.handle.files.set_cpu(cpu)
        {
            tracing::warn!(%error, "the CPU share of a function's init could not be set");
        }
        let (environment, start, image) = match told {
            Told::Environment(environment) => (Some(environment), None, None),
            Told::Start(start) => (None, Some(start), None),
            Told::Image { image, start, environment } => {
                (Some(environment), Some(start), Some(image))
            }
        };
        let (id, memory_mib) = (self.handle.id, memory.mib());
        if image.is_some() {
            // Before one that is restored can ask for it; it runs only once its code is attached.
            self.session.give(environment.clone().unwrap_or_default());
        }
        let claim = Claim { id, code, layers, memory_mib, start, image };
        self.handle.exec_failed = self.launcher.claim(claim).await?;
        let not_ready = |said: String| Err(PoolError::NotReady { said });
        if let (Some(_), Some((_, errno))) = (image, &self.handle.exec_failed) {
            let why = std::io::Error::from_raw_os_error(*errno);
            return not_ready(format!("its image does not run: {why}"));
        }
        self.open_rpc();
        self.state = State::Initialising;
        let Some(environment) = environment else { return Ok(()) };
        if image.is_none() {
            self.session.give(environment);
        }
        // One that dies before it is told what it is for is no failure of the function's.
        tokio::select! {
            biased;
            exit = exited(&self.status) => not_ready(format!("it is gone: {exit:?}")),
            () = self.session.told() => Ok(()),
            () = tokio::time::sleep(TELL_LIMIT), if image.is_some() => not_ready("it does not ask what it is for".into()),
        }
    }

    /// Speaks net/rpc with a program that listens for it.
    fn open_rpc(&mut self) {
        if let Some(rpc) = self.rpc.take() {
            self.doors.spawn(runtime_api::rpc_door::serve(self.session.clone(), rpc, RPC_PORT));
        }
    }

    /// Whether its program waited just before its exec, or still does.
    pub fn is_held(&self) -> bool {
        self.held
    }

    async fn start_without_log(launcher: Arc<Launcher>, wanted: Wanted) -> Result<Self, PoolError> {
        let (ahead, held) = (wanted.launch.code.is_none(), wanted.launch.held);
        let started = Instant::now();
        let watch = |source| PoolError::Watch { source };
        let mut handle = launcher.launch(wanted.launch).await?;
        let status = handle.status.try_clone().map_err(watch)?;
        let log = handle.log.take().ok_or(LauncherError::Gone)?;
        let (session, events) = if ahead && !held { Session::ahead() } else { Session::new() };
        let session = Arc::new(session);
        let mut doors = JoinSet::new();
        let (unix, tcp) = (handle.unix.take(), handle.tcp.take());
        let served = session.clone();
        doors.spawn(async move {
            if let Err(error) = runtime_api::http::serve(served, unix, tcp).await {
                tracing::error!(%error, "a sandbox's Runtime API cannot be served");
            }
        });
        let mut instance = Self {
            state: State::Initialising,
            launcher,
            status: sys::watch::watch(status).map_err(watch)?,
            rpc: handle.rpc.take(),
            held,
            handle,
            session,
            events,
            log: Capture::without_sink(log).map_err(watch)?,
            started,
            function_cpu: wanted.function_cpu,
            cpu_set: false,
            frozen: false,
            doors,
            released: false,
        };
        // Nobody listens in one that waits; a held program is one that may.
        if !ahead {
            instance.open_rpc();
        }
        Ok(instance)
    }

    /// The program, and why it did not exec.
    pub fn exec_failed(&self) -> Option<&(String, i32)> {
        self.handle.exec_failed.as_ref()
    }

    /// Protections that are weaker than designed, as the operator allowed.
    pub fn degraded(&self) -> &[String] {
        &self.handle.degraded
    }

    /// Waits until the function is loaded, for at most `limit`.
    pub async fn init(&mut self, limit: Duration) -> Init {
        let deadline = tokio::time::Instant::now() + limit;
        let init = loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Event::InitDone) => break Init::Done,
                    Some(Event::InitError { error_type, body }) => break Init::Failed { error_type, body },
                    Some(_) => {}
                    None => break Init::Exited(Exit::Killed),
                },
                exit = exited(&self.status) => break Init::Exited(exit),
                () = tokio::time::sleep_until(deadline) => break Init::TimedOut,
                () = self.log.pump() => {}
            }
        };
        match init {
            Init::Done => self.state = State::Idle,
            Init::TimedOut => self.die(),
            Init::Failed { .. } => {
                // The bootstrap ends by itself after its report; its last words are still read.
                let _ =
                    tokio::time::timeout(Duration::from_millis(200), exited(&self.status)).await;
                self.die();
            }
            Init::Exited(_) => self.die(),
        }
        self.log.drain();
        init
    }

    /// Runs one event, until its answer, its end, or `deadline`.
    ///
    /// The function's share of CPU holds from here on; the init phase had a whole core. With `stream`, a streamed
    /// answer's bytes go there as they come, and the outcome's body is empty; a receiver that is gone is not waited for.
    pub async fn invoke(
        &mut self,
        invocation: Invocation,
        deadline: SystemTime,
        stream: Option<&mpsc::Sender<Bytes>>,
    ) -> Outcome {
        self.state = State::Busy;
        if !self.cpu_set {
            match self.handle.files.set_cpu(self.function_cpu) {
                Ok(()) => self.cpu_set = true,
                Err(error) => tracing::warn!(%error, "the function's CPU share could not be set"),
            }
        }
        self.freeze(false);
        let request_id = invocation.request_id.clone();
        self.session.offer(invocation);
        let mut streamed = BytesMut::new();
        let mut streaming_attempt = 0;
        let outcome = loop {
            // Wall clock, as the function's own deadline is: a clock set forward ends it, one set back is seen again here.
            let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Event::Answer { request_id: id, answer }) if id == request_id => {
                        // One that was queued while the deadline passed is late all the same.
                        if SystemTime::now() >= deadline {
                            break Outcome::TimedOut;
                        }
                        break Outcome::Answered(match answer {
                            Answer::Response(body) => Answered::Response(body),
                            Answer::Streamed { error } => Answered::Streamed { body: streamed.split().freeze(), error },
                            Answer::Error { error_type, body } => Answered::Error { error_type, body },
                        });
                    }
                    Some(Event::Chunk { request_id: id, bytes, .. })
                        if id == request_id && stream.is_some() =>
                    {
                        // The function waits while the caller does not read, until its deadline.
                        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
                        if let Some(stream) = stream
                            && tokio::time::timeout(left, stream.send(bytes)).await.is_err()
                        {
                            break Outcome::TimedOut;
                        }
                    }
                    Some(Event::Chunk { request_id: id, attempt, bytes }) if id == request_id => {
                        if attempt != streaming_attempt {
                            streamed.clear();
                            streaming_attempt = attempt;
                        }
                        streamed.extend_from_slice(&bytes);
                    }
                    Some(_) => {}
                    None => break Outcome::Exited(Exit::Killed),
                },
                exit = exited(&self.status) => break Outcome::Exited(exit),
                () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {
                    if SystemTime::now() >= deadline {
                        break Outcome::TimedOut;
                    }
                }
                () = self.log.pump() => {}
            }
        };
        // A runtime that ended because its answer was refused: the size is the reason that counts.
        let refused = match &outcome {
            Outcome::Exited(_) => self.session.refused_size(),
            _ => None,
        };
        let outcome = match refused {
            Some(Answer::Error { error_type, body }) => {
                self.die();
                Outcome::Answered(Answered::Error { error_type, body })
            }
            _ => outcome,
        };
        match outcome {
            Outcome::Answered(_) if self.state == State::Dead => {}
            // A Go program that panicked says that it must not get another event.
            Outcome::Answered(_) if self.session.retired() => self.die(),
            Outcome::Answered(_) => self.state = State::Idle,
            Outcome::Exited(_) | Outcome::TimedOut => self.die(),
        }
        self.log.drain();
        outcome
    }

    /// Kills the whole cgroup; nothing that the sandbox still says counts.
    fn die(&mut self) {
        self.session.cancel();
        let _ = self.handle.files.kill();
        self.state = State::Dead;
    }

    /// Stops everything in the sandbox, or lets it go on; does nothing where it is so already.
    pub fn freeze(&mut self, frozen: bool) {
        if self.frozen != frozen {
            match self.handle.files.freeze(frozen) {
                Ok(()) => self.frozen = frozen,
                Err(error) => {
                    tracing::warn!(%error, frozen, "a sandbox could not be frozen or thawed")
                }
            }
        }
    }

    /// Whether its program ended while nobody asked anything of it.
    pub fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        // What the runtime heard of the descriptor when it last looked, which was for the request that asks now or later.
        let mut heard_only = Context::from_waker(Waker::noop());
        if self.status.poll_read_ready(&mut heard_only).is_pending() {
            return false;
        }
        let mut fds = [PollFd::new(self.status.get_ref().as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Most memory at one time so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        self.handle.files.memory_peak()
    }

    /// What was used so far.
    pub fn usage(&self) -> Usage {
        self.handle.files.usage()
    }

    /// Ends the sandbox and removes all of it; what it used in its life.
    ///
    /// # Errors
    /// The launcher is gone.
    pub async fn release(mut self) -> Result<(Usage, Option<S>), PoolError> {
        // What one that was killed before managed to say since then comes after its last word, and counts no more.
        if self.state != State::Dead {
            self.die();
            self.log.drain();
        }
        self.doors.abort_all();
        self.released = true;
        let usage = self.launcher.release(self.handle.id).await?;
        // Only now: whoever reads the log may take his time, and the sandbox is gone.
        self.log.end().await;
        Ok((usage, self.log.take_sink()))
    }
}

impl<S> Drop for Instance<S> {
    /// A future that was dropped half-way must not leave its sandbox behind.
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let _ = self.handle.files.kill();
        let (launcher, id) = (self.launcher.clone(), self.handle.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { launcher.release(id).await.map(drop) });
        }
    }
}

/// Waits for the program's end.
async fn exited(status: &AsyncFd<OwnedFd>) -> Exit {
    loop {
        let Ok(mut ready) = status.readable().await else { return Exit::Killed };
        match ready.try_io(|fd| {
            let mut peek = [0; 8];
            match nix::unistd::read(fd.get_ref(), &mut peek) {
                Ok(length) => Ok((length, peek)),
                Err(errno) => Err(errno.into()),
            }
        }) {
            Ok(Ok((8, bytes))) => return Exit::Status(decode_status(bytes)),
            Ok(_) => return Exit::Killed,
            Err(_would_block) => {}
        }
    }
}

/// Milliseconds since the epoch.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
