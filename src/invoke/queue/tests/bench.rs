//! A store whose waits are a thousandth of what was asked, functions that do as they are told, and a service that
//! takes what it is sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize};

use bytes::Bytes;
use serde_json::Value;

use super::super::*;
use crate::client::Endpoint;
use crate::control::ErrorKind;
use crate::invoke::FunctionError;
use crate::invoke::service::{InvokeRequest, Invoked, RunFuture};
use crate::store::memory::MemoryStore;
use crate::store::{Entry, Message, QueueStats, Revision, StoreFuture};

/// A store in which a second is a millisecond, and which remembers what it was asked.
#[derive(Debug, Default)]
pub(super) struct Hasty {
    inner: MemoryStore,
    /// Waits of everything that was given back, as asked.
    retries: Mutex<Vec<Duration>>,
    /// So many commits fail from now on.
    pub(super) failures: AtomicU32,
}

impl KeysAndQueues for Hasty {
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Entry>> {
        self.inner.get(key)
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        self.inner.scan(prefix, after, limit)
    }

    fn commit(&self, mut batch: Batch) -> StoreFuture<'_, Revision> {
        let fewer = |n: u32| n.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
            return Box::pin(async { Err(StoreError::Full { path: "/data".into() }) });
        }
        for (_, delay, _) in &mut batch.retry {
            self.retries.lock().unwrap().push(*delay);
            *delay /= 1000;
        }
        self.inner.commit(batch)
    }

    fn lease<'a>(
        &'a self,
        queue: &'a str,
        most: usize,
        hold: Duration,
    ) -> StoreFuture<'a, Vec<Message>> {
        self.inner.lease(queue, most, hold)
    }

    fn extend(&self, leases: Vec<Lease>, hold: Duration) -> StoreFuture<'_, ()> {
        self.inner.extend(leases, hold)
    }

    fn queue_stats<'a>(&'a self, queue: &'a str) -> StoreFuture<'a, QueueStats> {
        self.inner.queue_stats(queue)
    }

    fn queues<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<String>> {
        self.inner.queues(prefix)
    }

    fn dead<'a>(&'a self, queue: &'a str, limit: usize) -> StoreFuture<'a, Vec<Message>> {
        self.inner.dead(queue, limit)
    }
}

/// What a function does with its events, in order; then it answers `null`.
#[derive(Debug, Clone)]
pub(super) enum Does {
    Answers(&'static str),
    Fails(&'static str),
    Refuses(ErrorKind),
    Panics,
    /// Never ends.
    Hangs,
    /// Takes as long as this.
    Takes(Duration),
}

/// Functions, their settings, and what they were given.
#[derive(Default)]
pub(super) struct World {
    pub(super) plans: Mutex<HashMap<String, Vec<Does>>>,
    pub(super) policies: Mutex<HashMap<String, EventPolicy>>,
    pub(super) runs: Mutex<Vec<(String, String, Bytes)>>,
    now: AtomicUsize,
    pub(super) most: AtomicUsize,
    heard: Mutex<Vec<(String, Happened)>>,
}

impl Run for World {
    fn run(&self, request: InvokeRequest) -> RunFuture<'_> {
        assert!(request.durable_log);
        Box::pin(async move {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let next = {
                let mut plans = self.plans.lock().unwrap();
                let plan = plans.entry(request.function.clone()).or_default();
                if plan.is_empty() { Does::Answers("null") } else { plan.remove(0) }
            };
            let run = (request.function.clone(), request.request_id, request.payload);
            self.runs.lock().unwrap().push(run);
            let invoked = |result| Invoked {
                executed_version: "$LATEST".into(),
                invoked_arn: String::new(),
                result,
                log_tail: Vec::new(),
            };
            let answers = |text: &'static str| invoked(Ok(Bytes::from_static(text.as_bytes())));
            let outcome = match next {
                Does::Answers(text) => Ok(answers(text)),
                Does::Fails(body) => Ok(invoked(Err(FunctionError {
                    error_type: "E".into(),
                    body: Bytes::from_static(body.as_bytes()),
                    log_line: None,
                }))),
                Does::Refuses(kind) => Err(ControlError::new(kind, "Rate Exceeded.")),
                Does::Panics => {
                    self.now.fetch_sub(1, Ordering::SeqCst);
                    panic!("as the test wants it")
                }
                Does::Hangs => std::future::pending().await,
                Does::Takes(time) => {
                    tokio::time::sleep(time).await;
                    Ok(answers("null"))
                }
            };
            self.now.fetch_sub(1, Ordering::SeqCst);
            outcome
        })
    }
}

impl Policies for World {
    fn policy<'a>(
        &'a self,
        function: &'a str,
        _: Option<&'a str>,
        _: Option<&'a str>,
    ) -> PolicyFuture<'a> {
        let policy = self.policies.lock().unwrap().get(function).cloned();
        Box::pin(async move { Ok(policy) })
    }
}

impl Observe for World {
    fn observe(&self, function: &str, what: Happened) {
        self.heard.lock().unwrap().push((function.into(), what));
    }
}

/// A service that takes every request and keeps its text; at first it refuses as often as `refuse` says.
pub(super) struct Service {
    pub(super) url: String,
    pub(super) got: Arc<Mutex<Vec<String>>>,
    pub(super) refuse: Arc<Mutex<Vec<&'static str>>>,
}

impl Service {
    pub(super) async fn start(refuse: Vec<&'static str>) -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (got, refuse) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(refuse)));
        let (seen, refusals) = (got.clone(), refuse.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = Vec::new();
                let whole = |text: &[u8]| {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let (head, body) = text.split_once("\r\n\r\n")?;
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?;
                    (body.len() >= length.parse::<usize>().unwrap()).then(|| body.to_owned())
                };
                let body = loop {
                    let mut part = [0; 4096];
                    let read = stream.read(&mut part).await.unwrap();
                    text.extend_from_slice(&part[..read]);
                    if let Some(body) = whole(&text) {
                        break body;
                    }
                    assert!(read > 0, "cut short");
                };
                let refusal = refusals.lock().unwrap().pop();
                let (status, answer) = match refusal {
                    Some(status) => (status, r#"{"__type":"com.amazonaws.sqs#Oh","message":"no"}"#),
                    None => {
                        seen.lock().unwrap().push(body);
                        ("200 OK", "{}")
                    }
                };
                let length = answer.len();
                let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{answer}");
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        Self { url, got, refuse }
    }
}

pub(super) struct Bench {
    pub(super) store: Arc<Hasty>,
    pub(super) world: Arc<World>,
    pub(super) queue: AsyncQueue,
    pub(super) settings: Settings,
    pub(super) destinations: Destinations,
}

pub(super) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: url.into(),
        access_key_id: "id".into(),
        secret_access_key: "secret".into(),
        region: None,
    }
}

impl Bench {
    pub(super) fn with(settings: Settings, sqs: Option<&Service>) -> Self {
        let destinations = Destinations {
            region: "us-east-1".into(),
            account: "000000000000".into(),
            sqs: sqs.map(|s| endpoint(&s.url)),
            sns: None,
        };
        let (store, world) = (Arc::<Hasty>::default(), Arc::<World>::default());
        let queue = start(&store, &world, &settings, &destinations);
        Self { store, world, queue, settings, destinations }
    }

    pub(super) fn new() -> Self {
        Self::with(Settings::default(), None)
    }

    pub(super) fn function(&self, name: &str, policy: EventPolicy, plan: Vec<Does>) {
        self.world.policies.lock().unwrap().insert(name.into(), policy);
        self.world.plans.lock().unwrap().insert(name.into(), plan);
    }

    pub(super) async fn enqueue(&self, function: &str, id: &str) {
        self.queue.enqueue(event(function, id)).await.unwrap();
    }

    /// As after a crash: whatever ran is gone without a word, and another server starts on the same store.
    pub(super) async fn crash(&mut self) {
        let old = self.queue.supervisor.lock().unwrap().take().unwrap();
        old.abort();
        let _ = old.await;
        self.queue = start(&self.store, &self.world, &self.settings, &self.destinations);
    }

    /// Waits until nothing is left on any queue.
    pub(super) async fn empty(&self) {
        until(async || self.store.queues("").await.unwrap().is_empty()).await;
    }

    pub(super) fn runs(&self, function: &str) -> Vec<String> {
        let runs = self.world.runs.lock().unwrap();
        runs.iter().filter(|run| run.0 == function).map(|run| run.1.clone()).collect()
    }

    pub(super) fn heard(&self, what: Happened) -> usize {
        self.world.heard.lock().unwrap().iter().filter(|heard| heard.1 == what).count()
    }

    pub(super) fn retries(&self) -> Vec<u64> {
        self.store.retries.lock().unwrap().iter().map(Duration::as_secs).collect()
    }

    /// Payloads that `function` got, as JSON.
    pub(super) fn payloads(&self, function: &str) -> Vec<Value> {
        let runs = self.world.runs.lock().unwrap();
        let of = runs.iter().filter(|run| run.0 == function);
        of.map(|run| serde_json::from_slice(&run.2).unwrap()).collect()
    }
}

pub(super) fn start(
    store: &Arc<Hasty>,
    world: &Arc<World>,
    settings: &Settings,
    destinations: &Destinations,
) -> AsyncQueue {
    AsyncQueue::start(Parts {
        store: store.clone(),
        policies: world.clone(),
        run: world.clone(),
        destinations: destinations.clone(),
        observe: world.clone(),
        settings: settings.clone(),
    })
}

pub(super) fn event(function: &str, id: &str) -> AsyncEvent {
    let payload = Bytes::from_static(b"{ \"n\": 1.50 }");
    AsyncEvent::new(id.into(), function.into(), None, payload)
}

pub(super) async fn until(mut what: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it never came about");
}

pub(super) fn sqs(name: &str) -> Option<String> {
    Some(format!("arn:aws:sqs:us-east-1:000000000000:{name}"))
}

pub(super) fn lambda(name: &str) -> Option<String> {
    Some(format!("arn:aws:lambda:us-east-1:000000000000:function:{name}"))
}

pub(super) const ERROR: &str = r#"{"errorMessage":"no","errorType":"E"}"#;
