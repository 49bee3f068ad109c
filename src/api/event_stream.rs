//! AWS's event-stream framing, for `InvokeWithResponseStream`.
//!
//! A message: total length, headers' length, CRC of those eight bytes, headers, payload, CRC of all before. A header:
//! length and name, type 7 (text), length and value. Numbers are big-endian, CRCs are CRC-32.
//!
//! Source: Smithy, "Amazon Event Stream Specification".

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use super::StreamEvent;

const TEXT: u8 = 7;
/// Payload of one message at most; longer chunks are cut.
const MAX_PAYLOAD: usize = 1 << 20;

/// The frames of one event.
pub fn frames(event: &StreamEvent) -> Bytes {
    let mut out = BytesMut::new();
    match event {
        StreamEvent::PayloadChunk(bytes) => {
            for piece in bytes.chunks(MAX_PAYLOAD) {
                message(&mut out, "PayloadChunk", "application/octet-stream", piece);
            }
        }
        StreamEvent::InvokeComplete { error_code, error_details, log_result } => {
            let mut body = Map::new();
            let mut set = |key: &str, value: &Option<String>| {
                if let Some(value) = value {
                    body.insert(key.into(), value.as_str().into());
                }
            };
            set("ErrorCode", error_code);
            set("ErrorDetails", error_details);
            set("LogResult", log_result);
            let json = Value::Object(body).to_string();
            message(&mut out, "InvokeComplete", "application/json", json.as_bytes());
        }
    }
    out.freeze()
}

fn message(out: &mut BytesMut, event_type: &str, content_type: &str, payload: &[u8]) {
    let mut headers = BytesMut::new();
    for (name, value) in
        [(":event-type", event_type), (":content-type", content_type), (":message-type", "event")]
    {
        // All three are short.
        headers.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        headers.put_slice(value.as_bytes());
    }
    let start = out.len();
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    out.put_u32(size(16 + headers.len() + payload.len()));
    out.put_u32(size(headers.len()));
    let prelude = crc32fast::hash(&out[start..]);
    out.put_u32(prelude);
    out.put_slice(&headers);
    out.put_slice(payload);
    let whole = crc32fast::hash(&out[start..]);
    out.put_u32(whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_awss_readers_take() {
        let frame = frames(&StreamEvent::PayloadChunk(Bytes::from_static(b"hi")));
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        assert_eq!(usize::try_from(number(0)).unwrap(), frame.len());
        assert_eq!(number(8), crc32fast::hash(&frame[..8]));
        assert_eq!(number(frame.len() - 4), crc32fast::hash(&frame[..frame.len() - 4]));
        let headers = usize::try_from(number(4)).unwrap();
        assert_eq!(&frame[12..13 + 11], b"\x0b:event-type");
        assert_eq!(&frame[12 + headers..frame.len() - 4], b"hi");
        let end = StreamEvent::InvokeComplete {
            error_code: Some("E".into()),
            error_details: None,
            log_result: None,
        };
        let frame = frames(&end);
        assert!(frame.windows(17).any(|w| w == br#"{"ErrorCode":"E"}"#.as_slice()));
    }

    #[test]
    fn a_long_chunk_is_cut() {
        let long = Bytes::from(vec![0; MAX_PAYLOAD + 1]);
        let all = frames(&StreamEvent::PayloadChunk(long));
        let first = usize::try_from(u32::from_be_bytes(all[..4].try_into().unwrap())).unwrap();
        assert!(first > MAX_PAYLOAD && first < all.len());
    }
}
