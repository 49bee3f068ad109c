//! The door for Go programs built before aws-lambda-go knew the Runtime API (`go1.x`).
//!
//! Here the function is the server: it listens on loopback, on the port that `_LAMBDA_SERVER_PORT`
//! names, and answers Go net/rpc calls: `Function.Ping`, then `Function.Invoke` for each event. A
//! [`Client`] speaks over any byte stream to it, one call at a time, with no handshake. Connecting,
//! time limits and the process itself are the caller's: a call that is dropped half-way, or that
//! fails other than by [`GoRpcError::Refused`] or [`GoRpcError::ResponseTooLarge`], makes the client
//! unusable, and the instance with it.
//!
//! Source: Go's net/rpc package documentation; aws-lambda-go 1.13.3, package `lambda/messages`.

#![forbid(unsafe_code)]

use std::io;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::gob::{self, Decoder, Encoder, GobError, Item, Kind, Shape, Value};

/// Largest payload that a function may answer with, in bytes.
/// Source: AWS Lambda quotas, invocation payload (6 MB and what the envelope takes).
pub const MAX_RESPONSE_BYTES: usize = 6_291_556;
/// Largest message that is held in memory: a payload, its framing, and some room for the rest.
const MAX_MESSAGE_BYTES: u64 = MAX_RESPONSE_BYTES as u64 + 64 * 1024;
/// Largest message that is read to its end, without being kept, so that the connection stays usable.
const MAX_DRAINED_BYTES: u64 = 1 << 30;
/// Longest error message passed on, in bytes. With the frames below, an error's JSON stays far below
/// [`MAX_RESPONSE_BYTES`] even if every byte needs an escape.
const MAX_ERROR_TEXT_BYTES: usize = 256 * 1024;
/// Longest error type, path and label passed on, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Most stack frames passed on; the Go client sends 32 at most.
const MAX_FRAMES: usize = 64;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GoRpcError {
    /// An earlier call failed or was dropped half-way, so the stream's position is unknown.
    #[error("net/rpc connection is no longer usable")]
    Unusable,
    /// End of stream; most often the function's process has ended.
    #[error("function closed its net/rpc connection")]
    Closed,
    /// A `read(2)` or `write(2)` on the connection.
    #[error("cannot exchange net/rpc messages with the function")]
    Stream { source: io::Error },
    #[error("function sent a malformed net/rpc message")]
    Malformed { source: GobError },
    #[error("function announced a message of `{bytes}` bytes")]
    MessageTooLong { bytes: u64 },
    #[error("function answered call `{found}` instead of `{expected}`")]
    WrongCall { expected: u64, found: u64 },
    /// The function's net/rpc server did not run the method. The connection stays usable.
    #[error("function refused the call: {message}")]
    Refused { message: String },
    /// The answer was read to its end and thrown away. The connection stays usable.
    #[error("response of `{bytes}` bytes exceeds the maximum of {MAX_RESPONSE_BYTES}")]
    ResponseTooLarge { bytes: u64 },
}

impl From<GobError> for GoRpcError {
    fn from(source: GobError) -> Self {
        Self::Malformed { source }
    }
}

impl From<io::Error> for GoRpcError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Stream { source },
        }
    }
}

/// One event, as `Function.Invoke` takes it. What is not known is left empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct InvokeRequest<'a> {
    pub payload: &'a [u8],
    pub request_id: &'a str,
    pub x_amzn_trace_id: &'a str,
    pub deadline: Deadline,
    pub invoked_function_arn: &'a str,
    pub cognito_identity_id: &'a str,
    pub cognito_identity_pool_id: &'a str,
    /// The client context as JSON.
    pub client_context: &'a [u8],
}

/// A point in time since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline {
    pub seconds: i64,
    pub nanos: i64,
}

impl Deadline {
    /// Converts the `Lambda-Runtime-Deadline-Ms` of an invocation.
    pub fn from_unix_ms(deadline_ms: u64) -> Self {
        let seconds = i64::try_from(deadline_ms / 1000).unwrap_or(i64::MAX);
        let milliseconds = i64::try_from(deadline_ms % 1000).unwrap_or(0);
        Self { seconds, nanos: milliseconds * 1_000_000 }
    }
}

/// What the function answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InvokeResponse {
    pub payload: Vec<u8>,
    pub error: Option<InvokeError>,
}

/// The function's own error. Serialised, it is the JSON object that AWS's Go clients give.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct InvokeError {
    #[serde(rename = "errorMessage")]
    pub message: String,
    #[serde(rename = "errorType")]
    pub error_type: String,
    #[serde(rename = "stackTrace", skip_serializing_if = "Vec::is_empty")]
    pub stack_trace: Vec<StackFrame>,
    /// The handler panicked: the instance takes no further event.
    #[serde(skip)]
    pub should_exit: bool,
}

/// One level of a panic's stack.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct StackFrame {
    pub path: String,
    pub line: i64,
    pub label: String,
}

static REQUEST: Shape = Shape {
    name: "Request",
    id: 64,
    fields: &[("ServiceMethod", Kind::Text), ("Seq", Kind::Uint)],
};
static PING_REQUEST: Shape = Shape { name: "PingRequest", id: 65, fields: &[] };
static TIMESTAMP: Shape = Shape {
    name: "InvokeRequest_Timestamp",
    id: 67,
    fields: &[("Seconds", Kind::Int), ("Nanos", Kind::Int)],
};
static INVOKE_REQUEST: Shape = Shape {
    name: "InvokeRequest",
    id: 66,
    fields: &[
        ("Payload", Kind::Bytes),
        ("RequestId", Kind::Text),
        ("XAmznTraceId", Kind::Text),
        ("Deadline", Kind::Struct(&TIMESTAMP)),
        ("InvokedFunctionArn", Kind::Text),
        ("CognitoIdentityId", Kind::Text),
        ("CognitoIdentityPoolId", Kind::Text),
        ("ClientContext", Kind::Bytes),
    ],
};

/// The calling side of one connection to a function.
#[derive(Debug)]
pub struct Client<S> {
    stream: BufReader<S>,
    encoder: Encoder,
    decoder: Decoder,
    calls: u64,
    usable: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Takes a connected stream; nothing is sent yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            calls: 0,
            usable: true,
        }
    }

    /// Tells whether another call can be made.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Asks for a sign of life. The first one answered ends the function's init phase.
    ///
    /// # Errors
    /// Every [`GoRpcError`] but [`GoRpcError::ResponseTooLarge`] says that the function is not up.
    pub async fn ping(&mut self) -> Result<(), GoRpcError> {
        self.call("Function.Ping", &PING_REQUEST, &[], |value| value.skip()).await
    }

    /// Hands over one event and waits for the answer, for as long as it takes.
    ///
    /// # Errors
    /// The function's own error is no `Err` but in [`InvokeResponse::error`].
    pub async fn invoke(
        &mut self,
        request: &InvokeRequest<'_>,
    ) -> Result<InvokeResponse, GoRpcError> {
        let deadline = [Item::Int(request.deadline.seconds), Item::Int(request.deadline.nanos)];
        let items = [
            Item::Bytes(request.payload),
            Item::Text(request.request_id),
            Item::Text(request.x_amzn_trace_id),
            Item::Struct(&deadline),
            Item::Text(request.invoked_function_arn),
            Item::Text(request.cognito_identity_id),
            Item::Text(request.cognito_identity_pool_id),
            Item::Bytes(request.client_context),
        ];
        let response =
            self.call("Function.Invoke", &INVOKE_REQUEST, &items, read_invoke_response).await?;
        if response.payload.len() > MAX_RESPONSE_BYTES {
            return Err(GoRpcError::ResponseTooLarge { bytes: response.payload.len() as u64 });
        }
        Ok(response)
    }

    async fn call<T>(
        &mut self,
        method: &str,
        shape: &'static Shape,
        items: &[Item<'_>],
        read: fn(Value<'_, '_, '_>) -> Result<T, GobError>,
    ) -> Result<T, GoRpcError> {
        // Usable again only after a whole answer, so that neither an error nor a dropped future
        // leaves half a message for the next call.
        if !std::mem::replace(&mut self.usable, false) {
            return Err(GoRpcError::Unusable);
        }
        let call = self.calls;
        self.calls += 1;
        let mut messages = Vec::new();
        self.encoder.encode(&REQUEST, &[Item::Text(method), Item::Uint(call)], &mut messages);
        self.encoder.encode(shape, items, &mut messages);
        self.stream.write_all(&messages).await?;
        self.stream.flush().await?;
        drop(messages);

        let header = match self.value(read_response_header).await {
            // A header of that size is no answer of a net/rpc server.
            Err(GoRpcError::ResponseTooLarge { bytes }) => {
                return Err(GoRpcError::MessageTooLong { bytes });
            }
            header => header?,
        };
        if header.call != call {
            return Err(GoRpcError::WrongCall { expected: call, found: header.call });
        }
        if !header.error.is_empty() {
            self.value(|value| value.skip()).await?;
            self.usable = true;
            return Err(GoRpcError::Refused { message: header.error });
        }
        let answer = self.value(read).await;
        self.usable = matches!(answer, Ok(_) | Err(GoRpcError::ResponseTooLarge { .. }));
        answer
    }

    /// Reads messages up to and including the next value. Definitions in between are bounded by the
    /// decoder's own count of types.
    async fn value<T>(
        &mut self,
        read: fn(Value<'_, '_, '_>) -> Result<T, GobError>,
    ) -> Result<T, GoRpcError> {
        loop {
            let message = self.message().await?;
            if let Some(value) = self.decoder.message(&message, read)? {
                return Ok(value);
            }
        }
    }

    async fn message(&mut self) -> Result<Vec<u8>, GoRpcError> {
        let first = self.stream.read_u8().await?;
        let bytes = match gob::uint_width(first)? {
            None => u64::from(first),
            Some(width) => {
                let mut number = [0; 8];
                let number = number.get_mut(..width).unwrap_or_default();
                self.stream.read_exact(number).await?;
                gob::big_endian(number)
            }
        };
        if bytes > MAX_DRAINED_BYTES {
            return Err(GoRpcError::MessageTooLong { bytes });
        }
        let mut limited = (&mut self.stream).take(bytes);
        if bytes > MAX_MESSAGE_BYTES {
            let drained = tokio::io::copy_buf(&mut limited, &mut tokio::io::sink()).await?;
            let whole = drained == bytes;
            return Err(if whole {
                GoRpcError::ResponseTooLarge { bytes }
            } else {
                GoRpcError::Closed
            });
        }
        // Grows with the bytes that arrive, not by what the length promises.
        let mut message = Vec::new();
        limited.read_to_end(&mut message).await?;
        if message.len() as u64 == bytes { Ok(message) } else { Err(GoRpcError::Closed) }
    }
}

struct ResponseHeader {
    call: u64,
    error: String,
}

fn read_response_header(value: Value<'_, '_, '_>) -> Result<ResponseHeader, GobError> {
    let mut header = ResponseHeader { call: 0, error: String::new() };
    value.fields(|name, value| {
        match name {
            "Seq" => header.call = value.uint()?,
            "Error" => header.error = text(value, MAX_ERROR_TEXT_BYTES)?,
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok(header)
}

fn read_invoke_response(value: Value<'_, '_, '_>) -> Result<InvokeResponse, GobError> {
    let mut response = InvokeResponse::default();
    value.fields(|name, value| {
        match name {
            "Payload" => response.payload = value.bytes()?.to_vec(),
            "Error" => response.error = Some(read_invoke_error(value)?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok(response)
}

fn read_invoke_error(value: Value<'_, '_, '_>) -> Result<InvokeError, GobError> {
    let mut error = InvokeError::default();
    value.fields(|name, value| {
        match name {
            "Message" => error.message = text(value, MAX_ERROR_TEXT_BYTES)?,
            "Type" => error.error_type = text(value, MAX_NAME_BYTES)?,
            "ShouldExit" => error.should_exit = value.boolean()?,
            "StackTrace" => value.elements(|frame| {
                if error.stack_trace.len() >= MAX_FRAMES {
                    return frame.skip();
                }
                error.stack_trace.push(read_stack_frame(frame)?);
                Ok(())
            })?,
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok(error)
}

fn read_stack_frame(value: Value<'_, '_, '_>) -> Result<StackFrame, GobError> {
    let mut frame = StackFrame::default();
    value.fields(|name, value| {
        match name {
            "Path" => frame.path = text(value, MAX_NAME_BYTES)?,
            "Line" => frame.line = value.int()?,
            "Label" => frame.label = text(value, MAX_NAME_BYTES)?,
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok(frame)
}

/// Reads a string and cuts it, at a character's boundary, to at most `max_bytes`.
fn text(value: Value<'_, '_, '_>, max_bytes: usize) -> Result<String, GobError> {
    let text = value.text()?;
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(text.get(..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::DuplexStream;

    use super::*;

    /// What Go's own client sends for the first call, with its own type numbers.
    const PING_CALL: &str = "\
        2e7f030101075265717565737401ff80000102010d536572766963654d6574686f64010c000103536571\
        010600000012ff80010d46756e6374696f6e2e50696e670017ff810301010b50696e6752657175657374\
        01ff8200000003ff8200";
    /// What a function built with aws-lambda-go 1.13.3 answers.
    const PING_ANSWER: &str = "\
        397f03010108526573706f6e736501ff80000103010d536572766963654d6574686f64010c0001035365\
        7101060001054572726f72010c00000012ff80010d46756e6374696f6e2e50696e670018ff810301010c\
        50696e67526573706f6e736501ff8200000003ff8200";
    /// Its answer to `{"name":"Ada"}`, the second call, with the type definitions.
    const OK_ANSWER: &str = "\
        16ff80010f46756e6374696f6e2e496e766f6b6501010033ff830301010e496e766f6b65526573706f6e\
        736501ff8400010201075061796c6f6164010a0001054572726f7201ff8600000056ff8503010114496e\
        766f6b65526573706f6e73655f4572726f7201ff8600010401074d657373616765010c00010454797065\
        010c00010a537461636b547261636501ff8a00010a53686f756c644578697401020000003aff89020101\
        2b5b5d2a6d657373616765732e496e766f6b65526573706f6e73655f4572726f725f537461636b467261\
        6d6501ff8a0001ff88000028ff87030102ff88000103010450617468010c0001044c696e650104000105\
        4c6162656c010c000000fe0108ff8401fe01017b2268656c6c6f223a22416461222c22636c69656e7422\
        3a22676f2d727063222c2261726e223a2261726e3a6177733a6c616d6264613a75732d656173742d313a\
        3030303030303030303030303a66756e6374696f6e3a666e222c22726571756573745f6964223a223834\
        3736613533362d653966342d313165382d393733392d326466653539386333666364222c227472616365\
        223a22526f6f743d312d35626566346465372d6164343962306538376636656636633837666332653730\
        30222c226964656e74697479223a226964222c22637573746f6d223a7b226b223a2276227d2c22646561\
        646c696e655f6d73223a313930303030303030303530307d00";
    /// A returned error, the third call.
    const FAIL_ANSWER: &str = "\
        16ff80010f46756e6374696f6e2e496e766f6b650102001bff8402010772656675736564010b6572726f\
        72537472696e670000";
    /// A panic, the fourth call.
    const PANIC_ANSWER: &str = "\
        16ff80010f46756e6374696f6e2e496e766f6b65010300fe0274ff840201096f766572626f6172640106\
        737472696e67010c01376769746875622e636f6d2f6177732f6177732d6c616d6264612d676f4076312e\
        31332e332f6c616d6264612f66756e6374696f6e2e676f01460118282a46756e6374696f6e292e496e76\
        6f6b652e66756e633100011072756e74696d652f70616e69632e676f01fe06b80107676f70616e696300\
        010e676f2d7270632f6d61696e2e676f0150010668616e646c650001107265666c6563742f76616c7565\
        2e676f01fe0494010a56616c75652e63616c6c0001107265666c6563742f76616c75652e676f01fe02e2\
        010a56616c75652e43616c6c0001366769746875622e636f6d2f6177732f6177732d6c616d6264612d67\
        6f4076312e31332e332f6c616d6264612f68616e646c65722e676f01fff801104e657748616e646c6572\
        2e66756e63310001366769746875622e636f6d2f6177732f6177732d6c616d6264612d676f4076312e31\
        332e332f6c616d6264612f68616e646c65722e676f013001146c616d62646148616e646c65722e496e76\
        6f6b650001376769746875622e636f6d2f6177732f6177732d6c616d6264612d676f4076312e31332e33\
        2f6c616d6264612f66756e6374696f6e2e676f01ff860112282a46756e6374696f6e292e496e766f6b65\
        0001107265666c6563742f76616c75652e676f01fe0494010a56616c75652e63616c6c0001107265666c\
        6563742f76616c75652e676f01fe02e2010a56616c75652e43616c6c0001116e65742f7270632f736572\
        7665722e676f01fe02fe010f282a73657276696365292e63616c6c00011372756e74696d652f61736d5f\
        616d6436342e7301fe0dd60106676f657869740001010000";
    /// A method that is not there, the sixth call.
    const NO_METHOD_ANSWER: &str = "\
        40ff80011046756e6374696f6e2e4e6f7468696e67010501277270633a2063616e27742066696e64206d\
        6574686f642046756e6374696f6e2e4e6f7468696e67000aff8b030102ff8c00000003ff8c00";

    const PAYLOAD: &[u8] = br#"{"name":"Ada"}"#;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |byte: u8| u8::try_from((byte as char).to_digit(16).unwrap()).unwrap();
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A client whose peer has sent `answers` beforehand and closes after them.
    async fn client_of(answers: &[u8]) -> Client<DuplexStream> {
        let (ours, mut theirs) = tokio::io::duplex(answers.len() + 65536);
        theirs.write_all(answers).await.unwrap();
        theirs.shutdown().await.unwrap();
        tokio::spawn(async move { tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await });
        Client::new(ours)
    }

    fn request() -> InvokeRequest<'static> {
        InvokeRequest { payload: PAYLOAD, request_id: "8476a536", ..InvokeRequest::default() }
    }

    fn recorded(answers: &[&str]) -> Vec<u8> {
        answers.iter().flat_map(|answer| hex(answer)).collect()
    }

    #[test]
    fn a_recorded_conversation_is_read() {
        run(async {
            let all = recorded(&[PING_ANSWER, OK_ANSWER, FAIL_ANSWER, PANIC_ANSWER]);
            let mut client = client_of(&all).await;
            client.ping().await.unwrap();

            let ok = client.invoke(&request()).await.unwrap();
            let payload: serde_json::Value = serde_json::from_slice(&ok.payload).unwrap();
            assert_eq!(payload["hello"], "Ada");
            assert_eq!(payload["deadline_ms"], 1_900_000_000_500_u64);
            assert_eq!(ok.error, None);

            let error = client.invoke(&request()).await.unwrap().error.unwrap();
            let json = serde_json::to_string(&error).unwrap();
            assert_eq!(json, r#"{"errorMessage":"refused","errorType":"errorString"}"#);
            assert!(!error.should_exit);

            let error = client.invoke(&request()).await.unwrap().error.unwrap();
            assert!(error.should_exit);
            assert_eq!(
                (error.message.as_str(), error.error_type.as_str()),
                ("overboard", "string")
            );
            assert_eq!(error.stack_trace.len(), 12);
            let frame = serde_json::to_string(&error.stack_trace[1]).unwrap();
            assert_eq!(frame, r#"{"path":"runtime/panic.go","line":860,"label":"gopanic"}"#);

            assert!(client.is_usable());
            assert!(matches!(client.invoke(&request()).await, Err(GoRpcError::Closed)));
            assert!(matches!(client.ping().await, Err(GoRpcError::Unusable)));
        });
    }

    #[test]
    fn the_first_call_is_sent_as_go_sends_it() {
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(65536);
            theirs.write_all(&hex(PING_ANSWER)).await.unwrap();
            let mut client = Client::new(ours);
            client.ping().await.unwrap();
            drop(client);
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).await.unwrap();
            assert_eq!(sent, hex(PING_CALL));
        });
    }

    #[test]
    fn a_refused_call_leaves_the_connection_usable() {
        run(async {
            // The sixth answer alone: its types are those of the earlier ones.
            let mut client =
                client_of(&recorded(&[PING_ANSWER, OK_ANSWER, NO_METHOD_ANSWER])).await;
            client.ping().await.unwrap();
            client.invoke(&request()).await.unwrap();
            client.calls = 5;
            let refused = client.ping().await.unwrap_err();
            assert_eq!(
                refused.to_string(),
                "function refused the call: rpc: can't find method Function.Nothing"
            );
            assert!(client.is_usable());
        });
    }

    #[test]
    fn an_answer_to_another_call_ends_the_conversation() {
        run(async {
            let mut client = client_of(&hex(PING_ANSWER)).await;
            client.calls = 3;
            let error = client.ping().await.unwrap_err();
            assert_eq!(error.to_string(), "function answered call `0` instead of `3`");
            assert!(!client.is_usable());
        });
    }

    /// An answer to call `call`, for a client that has read [`PING_ANSWER`] and [`OK_ANSWER`].
    fn answer(call: u8, fields: &[u8]) -> Vec<u8> {
        let header = [0xff, 0x80, 2, call, 0]; // type 64: Response, its field Seq
        let mut body = vec![0xff, 0x84]; // type 66: InvokeResponse
        body.extend_from_slice(fields);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[5], &header[..], &[0xfc], &length[..], &body[..]].concat()
    }

    fn payload_of(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[1, 0xfc], &length[..], &vec![b'x'; bytes][..], &[0]].concat()
    }

    #[test]
    fn a_response_may_be_as_large_as_aws_allows_and_no_larger() {
        run(async {
            let mut answers = recorded(&[PING_ANSWER, OK_ANSWER]);
            let sizes = [MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1, 8 << 20, 3];
            for (call, &size) in (2..).zip(&sizes) {
                answers.extend(answer(call, &payload_of(size)));
            }
            let mut client = client_of(&answers).await;
            client.ping().await.unwrap();
            client.invoke(&request()).await.unwrap();
            assert_eq!(client.invoke(&request()).await.unwrap().payload.len(), MAX_RESPONSE_BYTES);
            let error = client.invoke(&request()).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "response of `6291557` bytes exceeds the maximum of 6291556"
            );
            let error = client.invoke(&request()).await.unwrap_err();
            assert!(matches!(error, GoRpcError::ResponseTooLarge { bytes: 8_388_617 }), "{error}");
            assert_eq!(client.invoke(&request()).await.unwrap().payload, b"xxx");
        });
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_read() {
        run(async {
            let mut client = client_of(&hex("f87fffffffffffffff00")).await;
            let error = client.ping().await.unwrap_err();
            let text = "function announced a message of `9223372036854775807` bytes";
            assert_eq!(error.to_string(), text);
        });
    }

    #[test]
    fn an_error_is_cut_to_size() {
        let mut error = vec![2, 1]; // InvokeResponse.Error, its Message
        error.extend([0xfc, 0, 0x10, 0, 0]);
        error.extend(vec![1; 1 << 20]);
        error.extend([2]); // StackTrace
        error.extend([0xfe, 0x10, 0]);
        for _ in 0..0x1000 {
            error.extend([2, 2, 0]); // Line 1
        }
        error.extend([0, 0]);
        run(async {
            let mut answers = recorded(&[PING_ANSWER, OK_ANSWER]);
            answers.extend(answer(2, &error));
            let mut client = client_of(&answers).await;
            client.ping().await.unwrap();
            client.invoke(&request()).await.unwrap();
            let error = client.invoke(&request()).await.unwrap().error.unwrap();
            assert_eq!(error.message.len(), MAX_ERROR_TEXT_BYTES);
            assert_eq!(error.stack_trace.len(), MAX_FRAMES);
            assert_eq!(error.stack_trace[0].line, 1);
            assert!(serde_json::to_vec(&error).unwrap().len() < MAX_RESPONSE_BYTES);
        });
    }

    #[test]
    fn an_answer_cut_short_is_a_closed_connection() {
        run(async {
            let whole = hex(PING_ANSWER);
            for end in 0..whole.len() {
                let mut client = client_of(&whole[..end]).await;
                let error = client.ping().await.unwrap_err();
                assert!(matches!(error, GoRpcError::Closed), "cut at {end}: {error}");
            }
        });
    }

    #[test]
    fn a_dropped_call_makes_the_client_unusable() {
        run(async {
            let (ours, _theirs) = tokio::io::duplex(65536);
            let mut client = Client::new(ours);
            let pause = std::time::Duration::from_millis(10);
            assert!(tokio::time::timeout(pause, client.ping()).await.is_err());
            assert!(matches!(client.ping().await, Err(GoRpcError::Unusable)));
        });
    }

    #[test]
    fn a_deadline_keeps_its_milliseconds() {
        let deadline = Deadline::from_unix_ms(1_900_000_000_500);
        assert_eq!(deadline, Deadline { seconds: 1_900_000_000, nanos: 500_000_000 });
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(damage: Vec<(prop::sample::Index, u8)>, end: prop::sample::Index) {
            let mut answers = recorded(&[PING_ANSWER, OK_ANSWER, FAIL_ANSWER, PANIC_ANSWER]);
            for (at, byte) in damage {
                *at.get_mut(&mut answers) = byte;
            }
            answers.truncate(end.index(answers.len() + 1));
            run(async {
                let mut client = client_of(&answers).await;
                if client.ping().await.is_ok() {
                    while client.invoke(&request()).await.is_ok() {}
                }
            });
        }
    }

    /// A function listening on the address in `KENNEL_TEST_GO_RPC`, as `tests/clients/go-rpc` builds.
    #[test]
    #[ignore = "needs a running function: KENNEL_TEST_GO_RPC=127.0.0.1:PORT"]
    fn a_real_function_answers() {
        let address = std::env::var("KENNEL_TEST_GO_RPC").unwrap();
        run(async {
            let mut client = Client::new(tokio::net::TcpStream::connect(address).await.unwrap());
            client.ping().await.unwrap();
            let full = InvokeRequest {
                payload: PAYLOAD,
                request_id: "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
                x_amzn_trace_id: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
                deadline: Deadline::from_unix_ms(4_000_000_000_250),
                invoked_function_arn: "arn:aws:lambda:us-east-1:000000000000:function:fn",
                cognito_identity_id: "us-east-1:identity",
                cognito_identity_pool_id: "us-east-1:pool",
                client_context: br#"{"custom":{"k":"v"}}"#,
            };
            let response = client.invoke(&full).await.unwrap();
            let payload: serde_json::Value = serde_json::from_slice(&response.payload).unwrap();
            assert_eq!(
                payload,
                serde_json::json!({
                    "hello": "Ada", "client": "go-rpc",
                    "arn": full.invoked_function_arn, "request_id": full.request_id,
                    "trace": full.x_amzn_trace_id, "identity": full.cognito_identity_id,
                    "custom": {"k": "v"}, "deadline_ms": 4_000_000_000_250_u64,
                })
            );
            for (payload, error_type, should_exit) in [
                (&br#"{"fail":"refused"}"#[..], "errorString", false),
                (b"nope", "SyntaxError", false),
                (br#"{"panic":"overboard"}"#, "string", true),
            ] {
                let response = client.invoke(&InvokeRequest { payload, ..full }).await.unwrap();
                let error = response.error.unwrap();
                assert_eq!(error.error_type, error_type);
                assert_eq!(error.should_exit, should_exit);
                assert_eq!(error.stack_trace.is_empty(), !should_exit);
            }
            let large = InvokeRequest { payload: br#"{"size":7000000}"#, ..full };
            let error = client.invoke(&large).await.unwrap_err();
            assert!(matches!(error, GoRpcError::ResponseTooLarge { .. }), "{error}");
            let name = "n".repeat(5_000_000);
            let payload = serde_json::to_vec(&serde_json::json!({ "name": name })).unwrap();
            let large = InvokeRequest { payload: &payload, ..full };
            assert!(client.invoke(&large).await.unwrap().payload.len() > 5_000_000);
            let exits = InvokeRequest { payload: br#"{"fail":"exit"}"#, ..full };
            assert!(matches!(client.invoke(&exits).await, Err(GoRpcError::Closed)));
        });
    }
}
