//! AWS's event stream framing (`application/vnd.amazon.eventstream`), as far as `InvokeWithResponseStream` sends it.
//!
//! A message: total length, header length, CRC-32 of these two, headers, payload, CRC-32 of all before; big-endian.
//!
//! Source: Smithy, "Amazon Event Stream Specification".

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

/// Bytes of payload in one message; larger chunks are split.
pub const MAX_CHUNK: usize = 1 << 20;
/// A header value that is text.
const STRING: u8 = 7;

/// Output of the function.
pub fn payload_chunk(bytes: &[u8]) -> Bytes {
    message("PayloadChunk", "application/octet-stream", bytes)
}

/// The end of an invocation; what is absent did not happen.
pub fn complete(
    error_code: Option<String>,
    error_details: Option<String>,
    log_result: Option<String>,
) -> Bytes {
    let members =
        [("ErrorCode", error_code), ("ErrorDetails", error_details), ("LogResult", log_result)];
    let members =
        members.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into())));
    let body = Value::Object(members.collect::<Map<_, _>>()).to_string();
    message("InvokeComplete", "application/json", body.as_bytes())
}

fn message(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::with_capacity(128);
    for (name, value) in
        [(":event-type", event_type), (":content-type", content_type), (":message-type", "event")]
    {
        // Lengths of the constants above.
        headers.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.put_slice(name.as_bytes());
        headers.put_u8(STRING);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        headers.put_slice(value.as_bytes());
    }
    let total = 4 + 4 + 4 + headers.len() + payload.len() + 4;
    let mut message = BytesMut::with_capacity(total);
    message.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    message.put_u32(u32::try_from(headers.len()).unwrap_or(u32::MAX));
    message.put_u32(crc32fast::hash(&message));
    message.put_slice(&headers);
    message.put_slice(payload);
    message.put_u32(crc32fast::hash(&message));
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigv4::hex;

    /// Read back once with botocore 1.44.8's parser, and made into constants then.
    #[test]
    fn messages_are_framed_as_botocore_reads_them() {
        assert_eq!(hex(&payload_chunk(b"hello")), CHUNK);
        let end = complete(Some("Unhandled".into()), None, Some("bG9n".into()));
        assert_eq!(hex(&end), END);
        assert_eq!(hex(&complete(None, None, None)), PLAIN_END);
    }

    const CHUNK: &str = "0000006f0000005af5fe871f0b3a6576656e742d7479706507000c5061796c6f61644368756e6b0d3a636f6e74656e742d747970650700186170706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970650700056576656e7468656c6c6f29e71260";
    const END: &str = "0000009000000054d8226d940b3a6576656e742d7479706507000e496e766f6b65436f6d706c6574650d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b224572726f72436f6465223a22556e68616e646c6564222c224c6f67526573756c74223a226247396e227d495b611b";
    const PLAIN_END: &str = "00000066000000541f56c8690b3a6576656e742d7479706507000e496e766f6b65436f6d706c6574650d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b7d7006d467";
}
