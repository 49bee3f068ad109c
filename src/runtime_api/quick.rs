//! The warm path of Kennel's own bootstraps: one small request after another on one connection.
//!
//! What is asked in exactly the words that those bootstraps use, and is here whole, is answered here, at a fraction of
//! what an HTTP library costs. Everything else is left to hyper with all that was read of it, and so is the rest of that
//! connection: there is one set of rules, and this is a short way through it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::http::{CLAIM, PREFIX};
use super::session::{Answer, Invocation, Session};

/// A larger request is not answered here.
const MAX_REQUEST: usize = 64 << 10;
/// Bytes of a payload that are copied behind their head, to leave in one write.
const MAX_COPIED: usize = 16 << 10;
/// Of a request that is answered here there are fewer.
const MAX_HEADERS: usize = 8;
/// First room for a request.
const ROOM: usize = 4 << 10;

/// To an answer that asks for nothing: 202 with a body, as in [`super::http`].
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\n\
    content-length: 16\r\n\r\n{\"status\":\"OK\"}\n";

/// What a bootstrap asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Claim,
    Next,
    /// Brings an answer; with `and_next`, asks for the next event too.
    Response {
        request_id: &'a str,
        body: std::ops::Range<usize>,
        and_next: bool,
    },
}

/// How a connection goes on.
#[derive(Debug)]
pub enum Rest {
    /// It ended.
    Ended,
    /// With a request that is not for here: what was read of it.
    Unread(BytesMut),
}

/// Answers requests until there is one that is not for here.
///
/// # Errors
/// The connection's.
pub async fn serve<S>(session: &Session, connection: u64, stream: &mut S) -> io::Result<Rest>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = BytesMut::with_capacity(ROOM);
    loop {
        let asked = loop {
            match look(&read) {
                Looked::Whole(asked, length) => break (asked, length),
                Looked::Other => return Ok(Rest::Unread(read)),
                Looked::Part => {}
            }
            if read.len() >= MAX_REQUEST {
                return Ok(Rest::Unread(read));
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(if read.is_empty() { Rest::Ended } else { Rest::Unread(read) });
            }
        };
        match asked {
            (Asked::Claim, length) => {
                let claimed = unless_closed(session.claim(), stream, &mut read).await?;
                let Some(claimed) = claimed else { return Ok(Rest::Ended) };
                let Ok(json) = claimed else { return Ok(Rest::Unread(read)) };
                read.advance(length);
                let mut head = BytesMut::from(&b"HTTP/1.1 200 OK\r\n"[..]);
                end_head(&mut head, json.len());
                send(stream, head, &json).await?;
                continue;
            }
            (Asked::Next, length) => read.advance(length),
            (Asked::Response { request_id, body, and_next }, length) => {
                // Nothing awaits between the two: it is here whole, and no reading of it can break off.
                if session.begin_answer(request_id).is_err() {
                    return Ok(Rest::Unread(read));
                }
                let request_id = request_id.to_owned();
                let answer = Answer::Response(Bytes::copy_from_slice(&read[body]));
                if session.finish_answer(&request_id, answer).await.is_err() {
                    session.abandon(&request_id);
                    return Ok(Rest::Unread(read));
                }
                read.advance(length);
                if !and_next {
                    stream.write_all(ACCEPTED).await?;
                    continue;
                }
            }
        }
        let next = unless_closed(session.next(connection), stream, &mut read).await?;
        let Some(invocation) = next else { return Ok(Rest::Ended) };
        send(stream, head(&invocation), &invocation.payload).await?;
    }
}

/// What comes of `future`; none if the other side closes the connection before that, so that nothing is handed to nobody.
async fn unless_closed<F, S>(
    future: F,
    stream: &mut S,
    read: &mut BytesMut,
) -> io::Result<Option<F::Output>>
where
    F: Future,
    S: AsyncRead + Unpin,
{
    let mut future = std::pin::pin!(future);
    loop {
        read.reserve(ROOM);
        tokio::select! {
            biased;
            // Before the event: a connection that is gone takes none.
            length = stream.read_buf(read), if read.len() < MAX_REQUEST => {
                if length? == 0 {
                    return Ok(None);
                }
            }
            output = &mut future => return Ok(Some(output)),
        }
    }
}

fn end_head(head: &mut BytesMut, length: usize) {
    head.extend_from_slice(b"content-length: ");
    push_number(head, length as u64);
    head.extend_from_slice(b"\r\n\r\n");
}

fn push_number(text: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

/// The head of an event: the lines up to the trace id are always these, and the Python bootstrap looks for them.
fn head(invocation: &Invocation) -> BytesMut {
    let mut head = BytesMut::with_capacity(512 + invocation.payload.len().min(MAX_COPIED));
    head.extend_from_slice(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: ",
    );
    head.extend_from_slice(invocation.request_id.as_bytes());
    head.extend_from_slice(b"\r\nlambda-runtime-deadline-ms: ");
    push_number(&mut head, invocation.deadline_ms);
    let mut line = |name: &[u8], value: &str| {
        // As everywhere: what no header can carry is left out.
        if value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)) {
            head.extend_from_slice(name);
            head.extend_from_slice(value.as_bytes());
        }
    };
    line(b"\r\nlambda-runtime-invoked-function-arn: ", &invocation.function_arn);
    line(b"\r\nlambda-runtime-trace-id: ", &invocation.trace_id);
    if let Some(context) = &invocation.client_context {
        line(b"\r\nlambda-runtime-client-context: ", context);
    }
    if let Some(identity) = &invocation.cognito_identity {
        line(b"\r\nlambda-runtime-cognito-identity: ", identity);
    }
    head.extend_from_slice(b"\r\n");
    end_head(&mut head, invocation.payload.len());
    head
}

async fn send<S>(stream: &mut S, mut head: BytesMut, body: &Bytes) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    if body.len() <= MAX_COPIED {
        head.extend_from_slice(body);
        return stream.write_all(&head).await;
    }
    let mut both = head.chain(body.clone());
    while both.has_remaining() {
        if stream.write_buf(&mut both).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Looked<'a> {
    /// A request, and how long it is.
    Whole(Asked<'a>, usize),
    /// May become one.
    Part,
    /// Not for here.
    Other,
}

/// Looks at what was read. Only what is known to the last byte is `Whole`.
fn look(read: &[u8]) -> Looked<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let start = match request.parse(read) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => {
            // Told at the first line's end at the latest: whoever speaks otherwise is not kept waiting here.
            let known = [&b"GET /"[..], b"POST /"].iter().any(|known| {
                let length = known.len().min(read.len());
                known[..length] == read[..length]
            });
            return if known && read.len() < MAX_REQUEST { Looked::Part } else { Looked::Other };
        }
        Err(_) => return Looked::Other,
    };
    let (Some(1), Some(method), Some(path)) = (request.version, request.method, request.path)
    else {
        return Looked::Other;
    };
    let Some(headers) = Headers::of(request.headers) else { return Looked::Other };
    let rest = path.strip_prefix(PREFIX);
    let id = rest.and_then(|rest| rest.strip_prefix("invocation/")?.strip_suffix("/response"));
    match (method, headers.length) {
        // A body or a wish that a GET has not is hyper's to judge.
        ("GET", None) if headers.and_next => Looked::Other,
        ("GET", None) if path == CLAIM => Looked::Whole(Asked::Claim, start),
        ("GET", None) if rest == Some("invocation/next") => Looked::Whole(Asked::Next, start),
        ("POST", Some(length)) if length <= MAX_REQUEST.saturating_sub(start) => {
            let Some(request_id) = id.filter(|id| !id.contains('/')) else { return Looked::Other };
            let body = start..start + length;
            if read.len() < body.end {
                return Looked::Part;
            }
            let (whole, and_next) = (body.end, headers.and_next);
            Looked::Whole(Asked::Response { request_id, body, and_next }, whole)
        }
        _ => Looked::Other,
    }
}

/// The headers of a request of a bootstrap of Kennel's.
#[derive(Debug, Default)]
struct Headers {
    length: Option<usize>,
    and_next: bool,
}

impl Headers {
    /// None where there is one that is not known here, or one that says something else than usual.
    fn of(lines: &[httparse::Header<'_>]) -> Option<Self> {
        let mut headers = Self::default();
        let mut host = false;
        for httparse::Header { name, value } in lines {
            if name.eq_ignore_ascii_case("host") && !host {
                host = true;
            } else if name.eq_ignore_ascii_case("content-length") && headers.length.is_none() {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let value = std::str::from_utf8(value).ok().filter(|_| digits)?;
                headers.length = Some(value.parse().ok()?);
            } else if name.eq_ignore_ascii_case("kennel-next") {
                headers.and_next = true;
            } else if !name.eq_ignore_ascii_case("content-type") {
                return None;
            }
        }
        host.then_some(headers)
    }
}

/// A connection of which some was read already, which is read again first.
#[derive(Debug)]
pub struct Reread<S> {
    pub read: BytesMut,
    pub stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Reread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reread<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::duplex;

    use super::super::session::Event;
    use super::*;

    fn post(id: &str, more: &str, body: &str) -> String {
        format!(
            "POST {PREFIX}invocation/{id}/response HTTP/1.1\r\nHost: h\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn only_what_is_known_to_the_last_byte_is_answered_here() {
        const NEXT: &str = "Kennel-Next: 1\r\n";
        let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n");
        let next = format!("{PREFIX}invocation/next");
        let whole = post("id", NEXT, "body");
        let body = whole.len() - 4..whole.len();
        let answer = Asked::Response { request_id: "id", body, and_next: true };
        assert_eq!(look(whole.as_bytes()), Looked::Whole(answer, whole.len()));
        let alone = post("id", "", "");
        let answer =
            Asked::Response { request_id: "id", body: alone.len()..alone.len(), and_next: false };
        assert_eq!(look(alone.as_bytes()), Looked::Whole(answer, alone.len()));
        for length in 0..whole.len() {
            assert_eq!(look(&whole.as_bytes()[..length]), Looked::Part, "{length} bytes of it");
        }
        let asked = get(&next, "");
        assert_eq!(look(asked.as_bytes()), Looked::Whole(Asked::Next, asked.len()));
        let two = format!("{asked}{asked}");
        assert_eq!(look(two.as_bytes()), Looked::Whole(Asked::Next, asked.len()));
        let claim = get(CLAIM, "content-type: x\r\n");
        assert_eq!(look(claim.as_bytes()), Looked::Whole(Asked::Claim, claim.len()));
        for other in [
            "PUT / HTTP/1.1\r\n".to_owned(),
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            format!("GET {next} HTTP/1.1\r\n\r\n"),
            format!("GET {next} HTTP/1.0\r\nHost: h\r\n\r\n"),
            get(&format!("{next}?"), ""),
            get(PREFIX, ""),
            get(&next, "Content-Length: 0\r\n"),
            get(&next, "Connection: close\r\n"),
            get(&next, "Host: h\r\n"),
            get(&next, "X\r\n"),
            get(&next, " folded: 1\r\n"),
            get(&next, "Content-Type: a\nTransfer-Encoding: chunked\r\n"),
            post("id/x", NEXT, ""),
            post("id", "Kennel-Next: 1\r\nContent-Length: 1\r\n", "x"),
            post("id", "Kennel-Next: 1\r\nTransfer-Encoding: chunked\r\n", "x"),
            post("id", "Kennel-Next: 1\r\nExpect: 100-continue\r\n", "x"),
            post(
                "id",
                "Kennel-Next: 1\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n",
                "x",
            ),
            post("id", "Kennel-Next: 1\r\nLambda-Runtime-Function-Error-Type: E\r\n", "x"),
            post("id", NEXT, &"x".repeat(MAX_REQUEST)),
            whole.replace("Length: 4", "Length: +4"),
            whole.replace("Length: 4", "Length: 18446744073709551616"),
            whole.replace("/response", "/error"),
        ] {
            assert_eq!(look(other.as_bytes()), Looked::Other, "{other}");
        }
        assert_eq!(look("GET /".repeat(MAX_REQUEST).as_bytes()), Looked::Other);
        assert_eq!(look(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"), Looked::Other);
    }

    fn event(id: &str, payload: Bytes) -> Invocation {
        Invocation {
            request_id: id.into(),
            payload,
            deadline_ms: 1_790_000_000_000,
            function_arn: "arn:f".into(),
            trace_id: "Root=1".into(),
            client_context: None,
            cognito_identity: None,
        }
    }

    /// What the Python bootstrap takes for an event at a glance is exactly this.
    #[tokio::test]
    async fn events_go_out_and_answers_come_in() {
        let (session, mut events) = Session::new();
        let session = Arc::new(session);
        session.connected(1);
        let (mut theirs, mut ours) = duplex(1 << 10);
        let served = session.clone();
        let task = tokio::spawn(async move { serve(&served, 1, &mut ours).await });
        let get = format!("GET {PREFIX}invocation/next HTTP/1.1\r\nHost: h\r\n\r\n");
        theirs.write_all(get.as_bytes()).await.unwrap();
        assert_eq!(events.recv().await, Some(Event::InitDone));
        let large = Bytes::from(vec![b' '; 3 * MAX_COPIED]);
        for (id, payload) in [("one", Bytes::from_static(b"{}")), ("two", large)] {
            let wanted = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: {id}\r\n\
                 lambda-runtime-deadline-ms: 1790000000000\r\nlambda-runtime-invoked-function-arn: arn:f\r\n\
                 lambda-runtime-trace-id: Root=1\r\ncontent-length: {}\r\n\r\n{}",
                payload.len(),
                String::from_utf8_lossy(&payload)
            );
            session.offer(event(id, payload));
            let mut got = vec![0; wanted.len()];
            theirs.read_exact(&mut got).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&got), wanted);
            // In pieces, as it may come.
            let answer = post(id, "kennel-next: 1\r\n", "done");
            for part in answer.as_bytes().chunks(50) {
                theirs.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            let answer = Answer::Response(Bytes::from_static(b"done"));
            assert_eq!(events.recv().await, Some(Event::Answer { request_id: id.into(), answer }));
        }
        session.offer(event("last", Bytes::new()));
        let mut got = [0; 1000];
        let length = theirs.read(&mut got).await.unwrap();
        assert!(got[..length].ends_with(b"content-length: 0\r\n\r\n"));
        theirs.write_all(post("last", "", "").as_bytes()).await.unwrap();
        let length = theirs.read(&mut got).await.unwrap();
        assert_eq!(&got[..length], ACCEPTED);
        theirs.write_all(get.as_bytes()).await.unwrap();
        assert!(matches!(events.recv().await, Some(Event::Answer { .. })));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await; // it waits by now
        // A connection that is gone takes no event.
        drop(theirs);
        assert!(matches!(task.await.unwrap(), Ok(Rest::Ended)));
        session.disconnected(1);
        session.offer(event("three", Bytes::new()));
        session.connected(2);
        assert_eq!(session.next(2).await.request_id, "three");
    }

    #[tokio::test]
    async fn what_is_not_for_here_is_left_unread() {
        let (session, _events) = Session::new();
        session.connected(1);
        for request in [
            post("unknown", "Kennel-Next: 1\r\n", "body"),
            format!("GET {CLAIM} HTTP/1.1\r\nHost: h\r\n\r\n"),
            "DELETE / HTTP/1.1\r\n\r\n".to_owned(),
            "POST /half".to_owned(),
        ] {
            let (mut theirs, mut ours) = duplex(1 << 10);
            theirs.write_all(request.as_bytes()).await.unwrap();
            if request.len() < 20 {
                drop(theirs); // or the rest would be waited for
            }
            let rest = serve(&session, 1, &mut ours).await.unwrap();
            let Rest::Unread(read) = rest else { panic!("{request}: {rest:?}") };
            assert_eq!(read, request.as_bytes());
            let mut again = vec![0; request.len()];
            Reread { read, stream: ours }.read_exact(&mut again).await.unwrap();
            assert_eq!(again, request.as_bytes());
        }
    }
}
