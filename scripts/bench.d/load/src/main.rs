//! Sends one request over and over, signed, on keep-alive connections, and says how long the answers took.
//!
//! Every server of a comparison gets the same bytes from the same client: blocking sockets, a thread a client, no
//! library of HTTP, so that its own cost is a few microseconds and the same for all. It shares no code with Kennel. The
//! clock of a request runs from the first byte written to the last byte read; signing comes before.
//!
//! `load --url http://127.0.0.1:PORT/PATH [--method POST] [--body TEXT | --body-file FILE] [--header 'NAME: VALUE']…
//! [--credentials FILE] [--clients 1] [--requests N] [--seconds S] [--warmup N] [--from N] [--status 200]
//! [--expect TEXT] [--bodies] [--cycle N] [--scatter]`
//!
//! `{n}` in path, body and expected text is the number of the request, from `--from` on; with `--cycle`, of as many
//! numbers as that over and over, with `--scatter` in no order. `--bodies` shows every answer on standard error.
//!
//! It ends after `--requests` or `--seconds`, whichever comes first. The result is one JSON object on standard output;
//! an answer of another status, or without the expected text, is an error that is counted, and the first one is shown.
//! Exit status 1 with any error.
//! Only loopback addresses are taken: this is a load generator.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// No answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(300);
const REGION: &str = "us-east-1";
const SERVICE: &str = "lambda";

type Any = Box<dyn std::error::Error + Send + Sync>;

// --- what is asked for ----------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Options {
    address: SocketAddr,
    host: String,
    path: String,
    method: String,
    body: String,
    headers: Vec<(String, String)>,
    keys: Option<Keys>,
    clients: u64,
    requests: u64,
    seconds: f64,
    warmup: u64,
    from: u64,
    status: u16,
    expect: String,
    bodies: bool,
    cycle: u64,
    scatter: bool,
}

#[derive(Debug, Clone)]
struct Keys {
    id: String,
    secret: String,
}

fn options() -> Result<Options, Any> {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = match name.as_str() {
            "--bodies" | "--scatter" => String::new(),
            "--url" | "--method" | "--body" | "--body-file" | "--header" | "--credentials"
            | "--clients" | "--requests" | "--seconds" | "--warmup" | "--from" | "--status"
            | "--expect" | "--cycle" => {
                arguments.next().ok_or_else(|| format!("`{name}` wants a value"))?
            }
            _ => return Err(format!("no such option: `{name}`").into()),
        };
        named.entry(name).or_default().push(value);
    }
    let last = |name: &str| named.get(name).and_then(|values| values.last()).cloned();
    let url = last("--url").ok_or("`--url` is needed")?;
    let rest =
        url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is no http:// address"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address =
        host.to_socket_addrs()?.next().ok_or_else(|| format!("`{host}` has no address"))?;
    if !address.ip().is_loopback() {
        return Err(format!("`{host}` is not on this machine's loopback").into());
    }
    let number = |name: &str, default: u64| last(name).map_or(Ok(default), |v| v.parse::<u64>());
    Ok(Options {
        address,
        host: host.to_owned(),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        method: last("--method").unwrap_or_else(|| "POST".to_owned()),
        body: match last("--body-file") {
            Some(file) => std::fs::read_to_string(file)?,
            None => last("--body").unwrap_or_default(),
        },
        headers: named
            .get("--header")
            .into_iter()
            .flatten()
            .filter_map(|h| h.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect(),
        keys: last("--credentials").map(|file| credentials(&file)).transpose()?,
        clients: number("--clients", 1)?.clamp(1, 2048),
        requests: number("--requests", u64::MAX)?,
        seconds: last("--seconds").map_or(Ok(60.0), |v| v.parse::<f64>())?,
        warmup: number("--warmup", 0)?,
        from: number("--from", 0)?,
        status: last("--status").map_or(Ok(200), |v| v.parse::<u16>())?,
        expect: last("--expect").unwrap_or_default(),
        bodies: named.contains_key("--bodies"),
        cycle: number("--cycle", u64::MAX)?.max(1),
        scatter: named.contains_key("--scatter"),
    })
}

/// The keys of the profile `default` in an AWS shared-credentials file.
fn credentials(file: &str) -> Result<Keys, Any> {
    let text = std::fs::read_to_string(file)?;
    let mut found = BTreeMap::new();
    let mut here = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            here = line == "[default]";
        } else if let (true, Some((name, value))) = (here, line.split_once('=')) {
            found.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    let mut take = |name: &str| found.remove(name).ok_or_else(|| format!("`{file}` has no {name}"));
    Ok(Keys { id: take("aws_access_key_id")?, secret: take("aws_secret_access_key")? })
}

// --- signing --------------------------------------------------------------------------------------------------------

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `YYYYMMDD` and `HHMMSS` of a time since 1970. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn date_and_time(seconds: u64) -> (String, String) {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (
        format!("{year:04}{month:02}{day:02}"),
        format!("{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60),
    )
}

/// Signs requests for one day with one derived key.
#[derive(Debug)]
struct Signer {
    keys: Keys,
    day: String,
    derived: Vec<u8>,
}

impl Signer {
    fn new(keys: Keys) -> Self {
        Self { keys, day: String::new(), derived: Vec::new() }
    }

    /// The header lines that a signature adds to a request of one path without a query.
    fn sign(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        body: &[u8],
        now: SystemTime,
    ) -> String {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (day, time) = date_and_time(seconds);
        if day != self.day {
            let steps = [&day, REGION, SERVICE, "aws4_request"];
            let first = format!("AWS4{}", self.keys.secret).into_bytes();
            self.derived = steps.iter().fold(first, |key, step| hmac(&key, step));
            self.day = day;
        }
        let day = &self.day;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        // The services except S3 encode the path once more.
        let canonical = path.replace('%', "%25").replace(':', "%3A").replace('$', "%24");
        let request = format!(
            "{method}\n{canonical}\n{query}\nhost:{host}\nx-amz-date:{day}T{time}Z\n\nhost;x-amz-date\n{}",
            hex(&Sha256::digest(body))
        );
        let scope = format!("{day}/{REGION}/{SERVICE}/aws4_request");
        let text =
            format!("AWS4-HMAC-SHA256\n{day}T{time}Z\n{scope}\n{}", hex(&Sha256::digest(request)));
        let signature = hex(&hmac(&self.derived, &text));
        format!(
            "x-amz-date: {day}T{time}Z\r\nauthorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
             SignedHeaders=host;x-amz-date, Signature={signature}\r\n",
            self.keys.id
        )
    }
}

/// Another number for each, in no order. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

// --- one client -----------------------------------------------------------------------------------------------------

struct Answer {
    status: u16,
    close: bool,
    body: Vec<u8>,
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

fn read_line(from: &mut impl BufRead, line: &mut String) -> io::Result<()> {
    line.clear();
    if from.read_line(line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
    }
    Ok(())
}

fn read_answer(from: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = String::new();
    read_line(from, &mut line)?;
    let status =
        line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad(line.clone()))?;
    let (mut length, mut chunked, mut close) = (None, false, false);
    loop {
        read_line(from, &mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            read_line(from, &mut line)?;
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16);
            let size = size.map_err(|_| bad(format!("no size of a chunk: {line}")))?;
            let start = body.len();
            body.resize(start + size, 0);
            from.read_exact(&mut body[start..])?;
            read_line(from, &mut line)?;
            if size == 0 {
                break;
            }
        }
    } else if status != 204 && status != 304 {
        body = vec![0; length.ok_or_else(|| bad("an answer without a length"))?];
        from.read_exact(&mut body)?;
    }
    Ok(Answer { status, close, body })
}

/// What all clients share.
struct Run<'a> {
    options: &'a Options,
    /// Requests begun.
    begun: AtomicU64,
    end: Instant,
    first_error: Mutex<Option<String>>,
    errors: AtomicU64,
}

impl Run<'_> {
    fn fail(&self, text: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.first_error.lock().expect("no client panics").get_or_insert(text);
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.options.address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(BufReader::with_capacity(64 << 10, stream))
    }

    /// Sends requests until the run is over; the times of the answers in nanoseconds.
    fn client(&self) -> Vec<u64> {
        let options = self.options;
        let mut signer = options.keys.clone().map(Signer::new);
        let mut times = Vec::new();
        let mut connection = None;
        let extra: String = options.headers.iter().fold(String::new(), |mut all, (name, value)| {
            let _ = write!(all, "{name}: {value}\r\n");
            all
        });
        while Instant::now() < self.end {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= options.requests {
                break;
            }
            let number = if options.scatter { scattered(number) } else { number };
            let number = (options.from + number % options.cycle).to_string();
            let (path, body) =
                (options.path.replace("{n}", &number), options.body.replace("{n}", &number));
            let signed = signer.as_mut().map_or_else(String::new, |signer| {
                signer.sign(
                    &options.method,
                    &options.host,
                    &path,
                    body.as_bytes(),
                    SystemTime::now(),
                )
            });
            let mut request = format!(
                "{} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 {extra}{signed}\r\n",
                options.method,
                options.host,
                body.len()
            )
            .into_bytes();
            request.extend_from_slice(body.as_bytes());
            let mut stream = match connection.take().map_or_else(|| self.connect(), Ok) {
                Ok(stream) => stream,
                Err(error) => {
                    self.fail(format!("cannot connect: {error}"));
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            let began = Instant::now();
            let answer =
                stream.get_mut().write_all(&request).and_then(|()| read_answer(&mut stream));
            let took = began.elapsed();
            match answer {
                Ok(answer) => {
                    let text = String::from_utf8_lossy(&answer.body);
                    let expect = options.expect.replace("{n}", &number);
                    if answer.status != options.status || !text.contains(&expect) {
                        self.fail(format!("status {}: {text}", answer.status));
                    } else {
                        times.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                    }
                    if options.bodies {
                        let mut out = io::stderr().lock();
                        let _ = out.write_all(&answer.body).and_then(|()| out.write_all(b"\n"));
                    }
                    connection = (!answer.close).then_some(stream);
                }
                Err(error) => self.fail(error.to_string()),
            }
        }
        times
    }
}

// --- all of them ----------------------------------------------------------------------------------------------------

/// The nearest rank, in milliseconds.
fn percentile(sorted: &[u64], thousandths: usize) -> f64 {
    let rank = (sorted.len() * thousandths).div_ceil(1000).max(1) - 1;
    sorted
        .get(rank)
        .map_or(0.0, |nanoseconds| Duration::from_nanos(*nanoseconds).as_secs_f64() * 1000.0)
}

fn run(options: &Options, requests: u64) -> (Vec<u64>, f64, u64, Option<String>) {
    let began = Instant::now();
    let limited = Options { requests, ..clone(options) };
    let run = Run {
        options: &limited,
        begun: AtomicU64::new(0),
        end: began + Duration::from_secs_f64(options.seconds),
        first_error: Mutex::new(None),
        errors: AtomicU64::new(0),
    };
    let mut times = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..options.clients).map(|_| scope.spawn(|| run.client())).collect();
        clients.into_iter().flat_map(|c| c.join().expect("no client panics")).collect::<Vec<_>>()
    });
    let took = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let error = run.first_error.lock().expect("no client panics").take();
    (times, took, run.errors.load(Ordering::Relaxed), error)
}

fn clone(options: &Options) -> Options {
    Options {
        host: options.host.clone(),
        path: options.path.clone(),
        method: options.method.clone(),
        body: options.body.clone(),
        headers: options.headers.clone(),
        keys: options.keys.clone(),
        expect: options.expect.clone(),
        ..*options
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    if options.warmup > 0 {
        run(&options, options.warmup);
    }
    let (times, took, errors, error) = run(&options, options.requests);
    let count = u32::try_from(times.len()).map_or(0.0, f64::from);
    println!(
        "{{\"n\":{},\"errors\":{errors},\"seconds\":{took:.4},\"per_second\":{:.1},\"min_ms\":{:.4},\"p50_ms\":{:.4},\
         \"p90_ms\":{:.4},\"p99_ms\":{:.4},\"max_ms\":{:.4}}}",
        times.len(),
        count / took,
        percentile(&times, 0),
        percentile(&times, 500),
        percentile(&times, 900),
        percentile(&times, 990),
        percentile(&times, 1000),
    );
    if let Some(error) = error {
        eprintln!(
            "load: {errors} errors, the first: {}",
            error.chars().take(500).collect::<String>()
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, day, time) in [
            (0, "19700101", "000000"),
            (951_782_400, "20000229", "000000"),
            (1_440_938_160, "20150830", "123600"),
            (4_107_542_399, "21000228", "235959"),
        ] {
            assert_eq!(date_and_time(seconds), (day.to_owned(), time.to_owned()));
        }
    }

    #[test]
    fn answers() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, "hi"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
                200,
                "hi!",
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ] {
            let answer = read_answer(&mut text.as_bytes()).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()));
        }
        assert!(
            read_answer(&mut "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi".as_bytes()).is_err()
        );
    }
}
