//! Go's gob encoding, as far as a net/rpc conversation with a Lambda function needs it.
//!
//! [`Encoder`] writes the few structs that Kennel sends, each preceded once by its type definition.
//! [`Decoder`] reads any struct by the definitions that the peer sent: fields are found by name, and
//! those that nobody asked for are skipped. The peer is a program inside a sandbox, so a message is
//! taken for hostile: lengths are checked against the bytes at hand before anything is allocated,
//! nesting, types and fields are counted, and no input makes it panic.
//!
//! Not here: framing a stream into messages (`go_rpc`), and interface values that bring a type
//! definition of their own, which no message of this protocol has.
//!
//! Source: Go's package documentation of encoding/gob, "Encoding Details".

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Deepest nesting of values that is followed. An invocation's answer has four levels.
const MAX_DEPTH: u32 = 32;
/// Most types a peer may define on one connection. A function defines six.
const MAX_TYPES: usize = 64;
/// Most fields of one struct type. The largest of the protocol has eight.
const MAX_FIELDS: usize = 64;
/// Longest field name kept, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Numbers below belong to gob itself (`firstUserId` in Go).
const FIRST_USER_TYPE: i64 = 64;

const BOOL: i64 = 1;
const INT: i64 = 2;
const UINT: i64 = 3;
const FLOAT: i64 = 4;
const BYTES: i64 = 5;
const STRING: i64 = 6;
const COMPLEX: i64 = 7;
const INTERFACE: i64 = 8;
const WIRE_TYPE: i64 = 16;
const ARRAY_TYPE: i64 = 17;
const COMMON_TYPE: i64 = 18;
const SLICE_TYPE: i64 = 19;
const STRUCT_TYPE: i64 = 20;
const FIELD_TYPE: i64 = 21;
const FIELD_TYPES: i64 = 22;
const MAP_TYPE: i64 = 23;
/// Ours alone: Go numbers its `gobEncoderType` by chance, but never sends that number.
const CUSTOM_TYPE: i64 = 24;

/// What is wrong with a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GobError {
    #[error("gob message ends inside a value")]
    Truncated,
    #[error("gob number has `{bytes}` bytes, at most 8 are allowed")]
    NumberTooLong { bytes: u8 },
    #[error("gob number `{number}` is out of range for {what}")]
    OutOfRange { what: &'static str, number: u64 },
    #[error("gob message has `{bytes}` bytes after its value")]
    TrailingBytes { bytes: usize },
    #[error("gob values are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("gob peer defines more than {MAX_TYPES} types")]
    TooManyTypes,
    #[error("gob struct type has more than {MAX_FIELDS} fields")]
    TooManyFields,
    #[error("gob name is longer than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    #[error("gob type `{id}` cannot be defined here")]
    BadTypeDefinition { id: i64 },
    #[error("gob type `{id}` is not defined")]
    UnknownType { id: i64 },
    #[error("gob value of type `{id}` where {wanted} is expected")]
    Mismatch { id: i64, wanted: &'static str },
    #[error("gob field number `{number}` is not in the type's definition")]
    UnknownField { number: u64 },
    #[error("gob interface value defines a type")]
    InterfaceDefinesType,
}

// ---------------------------------------------------------------------------------- encoding

/// A struct type that is sent: its name, its number on the wire (64 or more), its fields in order.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    pub id: i64,
    pub fields: &'static [(&'static str, Kind)],
}

/// The type of a field that is sent.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Int,
    Uint,
    Bytes,
    Text,
    Struct(&'static Shape),
}

impl Kind {
    fn id(self) -> i64 {
        match self {
            Self::Int => INT,
            Self::Uint => UINT,
            Self::Bytes => BYTES,
            Self::Text => STRING,
            Self::Struct(shape) => shape.id,
        }
    }
}

/// A value that is sent. A struct has one item for each field of its shape, in the same order.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    Int(i64),
    Uint(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Struct(&'a [Item<'a>]),
}

impl Item<'_> {
    /// Tells whether the field is left out of its struct, as gob does with zero values.
    fn is_zero(self) -> bool {
        match self {
            Self::Int(number) => number == 0,
            Self::Uint(number) => number == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Text(text) => text.is_empty(),
            Self::Struct(items) => items.iter().all(|item| item.is_zero()),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(number) => put_int(out, number),
            Self::Uint(number) => put_uint(out, number),
            Self::Bytes(bytes) => put_bytes(out, bytes),
            Self::Text(text) => put_bytes(out, text.as_bytes()),
            Self::Struct(items) => put_struct(out, items),
        }
    }
}

/// The sending side of one connection; remembers which types the peer has been told.
#[derive(Debug, Default)]
pub struct Encoder {
    defined: Vec<i64>,
}

impl Encoder {
    /// Appends the messages for one struct value to `out`: new type definitions, then the value.
    pub fn encode(&mut self, shape: &'static Shape, items: &[Item<'_>], out: &mut Vec<u8>) {
        debug_assert_eq!(shape.fields.len(), items.len(), "{} takes other fields", shape.name);
        self.define(shape, out);
        let mut message = Vec::new();
        put_int(&mut message, shape.id);
        put_struct(&mut message, items);
        put_bytes(out, &message);
    }

    /// Appends the definition of `shape` and of the structs within it, unless the peer has them.
    fn define(&mut self, shape: &'static Shape, out: &mut Vec<u8>) {
        if self.defined.contains(&shape.id) {
            return;
        }
        self.defined.push(shape.id);
        let fields: Vec<[Item<'_>; 2]> = shape
            .fields
            .iter()
            .map(|(name, kind)| [Item::Text(name), Item::Int(kind.id())])
            .collect();
        let mut message = Vec::new();
        put_int(&mut message, -shape.id);
        put_uint(&mut message, 3); // wireType.StructT
        put_uint(&mut message, 1); // structType.CommonType
        put_struct(&mut message, &[Item::Text(shape.name), Item::Int(shape.id)]);
        if !fields.is_empty() {
            put_uint(&mut message, 1); // structType.Field
            put_uint(&mut message, fields.len() as u64);
            for field in &fields {
                put_struct(&mut message, field);
            }
        }
        message.extend_from_slice(&[0, 0]); // the ends of structType and wireType
        put_bytes(out, &message);
        for (_, kind) in shape.fields {
            if let Kind::Struct(inner) = kind {
                self.define(inner, out);
            }
        }
    }
}

fn put_uint(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match bytes {
        [0, 0, 0, 0, 0, 0, 0, low @ 0..=0x7f] => out.push(low),
        _ => {
            let significant: u8 = bytes.iter().skip_while(|byte| **byte == 0).map(|_| 1).sum();
            out.push(significant.wrapping_neg());
            out.extend(bytes.iter().skip_while(|byte| **byte == 0));
        }
    }
}

fn put_int(out: &mut Vec<u8>, number: i64) {
    let doubled = number.cast_unsigned() << 1;
    put_uint(out, if number < 0 { !doubled } else { doubled });
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_struct(out: &mut Vec<u8>, items: &[Item<'_>]) {
    let mut delta = 0;
    for item in items {
        delta += 1;
        if !item.is_zero() {
            put_uint(out, delta);
            item.write(out);
            delta = 0;
        }
    }
    out.push(0);
}

// ---------------------------------------------------------------------------------- decoding

/// The receiving side of one connection; holds the types that the peer has defined.
#[derive(Debug)]
pub struct Decoder {
    types: Types,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { types: Types::built_in() }
    }
}

impl Decoder {
    /// Reads one message, which is without its length prefix.
    ///
    /// Returns what `read` made of the value, or `None` if the message was a type definition.
    pub fn message<'b, T>(
        &mut self,
        bytes: &'b [u8],
        read: impl FnOnce(Value<'_, '_, 'b>) -> Result<T, GobError>,
    ) -> Result<Option<T>, GobError> {
        let mut cursor = Cursor { rest: bytes };
        let id = cursor.int()?;
        if id < 0 {
            self.define(id.checked_neg().ok_or(GobError::BadTypeDefinition { id })?, &mut cursor)?;
            cursor.end()?;
            return Ok(None);
        }
        // A value that is no struct travels as the only field of one, with a delta of zero.
        if !matches!(self.types.get(id), Some(Type::Struct(_))) && cursor.uint()? != 0 {
            return Err(GobError::Mismatch { id, wanted: "a single value" });
        }
        let value = read(Value { types: &self.types, cursor: &mut cursor, id, depth: 0 })?;
        cursor.end()?;
        Ok(Some(value))
    }

    fn define(&mut self, id: i64, cursor: &mut Cursor<'_>) -> Result<(), GobError> {
        if id < FIRST_USER_TYPE || self.types.get(id).is_some() {
            return Err(GobError::BadTypeDefinition { id });
        }
        if self.types.peer_defined() >= MAX_TYPES {
            return Err(GobError::TooManyTypes);
        }
        let mut defined = None;
        let wire_type = Value { types: &self.types, cursor, id: WIRE_TYPE, depth: 0 };
        wire_type.fields(|name, value| {
            defined = Some(Type::from_wire(name, value)?);
            Ok(())
        })?;
        self.types.known.insert(id, defined.ok_or(GobError::BadTypeDefinition { id })?);
        Ok(())
    }
}

/// One type's layout. Elements and fields are named by number and may be defined later.
#[derive(Debug)]
enum Type {
    Array {
        element: i64,
    },
    Slice {
        element: i64,
    },
    Map {
        key: i64,
        element: i64,
    },
    Struct(Vec<(String, i64)>),
    /// A type with its own encoding: a run of bytes to gob.
    Custom,
}

impl Type {
    /// Reads one field of Go's `wireType`; its name tells the sort of type.
    fn from_wire(name: &str, value: Value<'_, '_, '_>) -> Result<Self, GobError> {
        let (mut key, mut element) = (0, 0);
        let mut members = Vec::new();
        value.fields(|part, value| {
            match part {
                "Key" => key = value.int()?,
                "Elem" => element = value.int()?,
                "Field" => value.elements(|field| {
                    if members.len() >= MAX_FIELDS {
                        return Err(GobError::TooManyFields);
                    }
                    members.push(field_type(field)?);
                    Ok(())
                })?,
                _ => value.skip()?,
            }
            Ok(())
        })?;
        Ok(match name {
            "ArrayT" => Self::Array { element },
            "SliceT" => Self::Slice { element },
            "MapT" => Self::Map { key, element },
            "StructT" => Self::Struct(members),
            _ => Self::Custom,
        })
    }
}

fn field_type(field: Value<'_, '_, '_>) -> Result<(String, i64), GobError> {
    let (mut name, mut id) = (String::new(), 0);
    field.fields(|part, value| {
        match part {
            "Name" => {
                let text = value.text()?;
                if text.len() > MAX_NAME_BYTES {
                    return Err(GobError::NameTooLong);
                }
                name = text.into_owned();
            }
            "Id" => id = value.int()?,
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok((name, id))
}

#[derive(Debug)]
struct Types {
    known: BTreeMap<i64, Type>,
    built_in: usize,
}

impl Types {
    /// The types by which gob describes types, known to both sides beforehand.
    fn built_in() -> Self {
        let structure = |fields: &[(&str, i64)]| {
            Type::Struct(fields.iter().map(|&(name, id)| (name.to_owned(), id)).collect())
        };
        let known = BTreeMap::from([
            (
                WIRE_TYPE,
                structure(&[
                    ("ArrayT", ARRAY_TYPE),
                    ("SliceT", SLICE_TYPE),
                    ("StructT", STRUCT_TYPE),
                    ("MapT", MAP_TYPE),
                    ("GobEncoderT", CUSTOM_TYPE),
                    ("BinaryMarshalerT", CUSTOM_TYPE),
                    ("TextMarshalerT", CUSTOM_TYPE),
                ]),
            ),
            (ARRAY_TYPE, structure(&[("CommonType", COMMON_TYPE), ("Elem", INT), ("Len", INT)])),
            (COMMON_TYPE, structure(&[("Name", STRING), ("Id", INT)])),
            (SLICE_TYPE, structure(&[("CommonType", COMMON_TYPE), ("Elem", INT)])),
            (STRUCT_TYPE, structure(&[("CommonType", COMMON_TYPE), ("Field", FIELD_TYPES)])),
            (FIELD_TYPE, structure(&[("Name", STRING), ("Id", INT)])),
            (FIELD_TYPES, Type::Slice { element: FIELD_TYPE }),
            (MAP_TYPE, structure(&[("CommonType", COMMON_TYPE), ("Key", INT), ("Elem", INT)])),
            (CUSTOM_TYPE, structure(&[("CommonType", COMMON_TYPE)])),
        ]);
        Self { built_in: known.len(), known }
    }

    fn get(&self, id: i64) -> Option<&Type> {
        self.known.get(&id)
    }

    fn peer_defined(&self) -> usize {
        self.known.len().saturating_sub(self.built_in)
    }
}

/// A value that lies next in a message. Each method consumes it; one that is not wanted is skipped.
#[derive(Debug)]
#[must_use = "the value's bytes stay in the way of the next one"]
pub struct Value<'t, 'c, 'b> {
    types: &'t Types,
    cursor: &'c mut Cursor<'b>,
    id: i64,
    depth: u32,
}

impl<'t, 'b> Value<'t, '_, 'b> {
    pub fn boolean(self) -> Result<bool, GobError> {
        self.expect(BOOL, "a boolean")?;
        Ok(self.cursor.uint()? != 0)
    }

    pub fn int(self) -> Result<i64, GobError> {
        self.expect(INT, "an integer")?;
        self.cursor.int()
    }

    pub fn uint(self) -> Result<u64, GobError> {
        self.expect(UINT, "an unsigned integer")?;
        self.cursor.uint()
    }

    pub fn bytes(self) -> Result<&'b [u8], GobError> {
        self.expect(BYTES, "bytes")?;
        self.cursor.counted()
    }

    /// Reads a string; bytes that are not UTF-8 become U+FFFD, as in Go's own JSON encoder.
    pub fn text(self) -> Result<Cow<'b, str>, GobError> {
        self.expect(STRING, "a string")?;
        Ok(String::from_utf8_lossy(self.cursor.counted()?))
    }

    /// Calls `each` with the name and value of every field that was sent; `each` consumes the value.
    pub fn fields(
        self,
        mut each: impl FnMut(&'t str, Value<'t, '_, 'b>) -> Result<(), GobError>,
    ) -> Result<(), GobError> {
        let Some(Type::Struct(members)) = self.types.get(self.id) else {
            return Err(GobError::Mismatch { id: self.id, wanted: "a struct" });
        };
        let depth = self.deeper()?;
        let mut number: u64 = 0; // counts from 1
        loop {
            let delta = self.cursor.uint()?;
            if delta == 0 {
                return Ok(());
            }
            number = number.saturating_add(delta);
            let member = usize::try_from(number - 1).ok().and_then(|index| members.get(index));
            let Some((name, id)) = member else {
                return Err(GobError::UnknownField { number });
            };
            each(name, Value { types: self.types, cursor: &mut *self.cursor, id: *id, depth })?;
        }
    }

    /// Calls `each` with every element of a slice or array; `each` consumes it.
    pub fn elements(
        self,
        mut each: impl FnMut(Value<'t, '_, 'b>) -> Result<(), GobError>,
    ) -> Result<(), GobError> {
        let (Some(Type::Array { element }) | Some(Type::Slice { element })) =
            self.types.get(self.id)
        else {
            return Err(GobError::Mismatch { id: self.id, wanted: "a slice" });
        };
        let depth = self.deeper()?;
        for _ in 0..self.cursor.length()? {
            each(Value { types: self.types, cursor: &mut *self.cursor, id: *element, depth })?;
        }
        Ok(())
    }

    /// Steps over the value, whatever it is.
    pub fn skip(self) -> Result<(), GobError> {
        match self.id {
            BOOL | INT | UINT | FLOAT => self.cursor.uint().map(drop),
            BYTES | STRING => self.cursor.counted().map(drop),
            COMPLEX => self.cursor.uint().and_then(|_| self.cursor.uint()).map(drop),
            INTERFACE => {
                if self.cursor.counted()?.is_empty() {
                    return Ok(()); // nil
                }
                if self.cursor.int()? < 0 {
                    return Err(GobError::InterfaceDefinesType);
                }
                self.cursor.counted().map(drop)
            }
            id => match self.types.get(id) {
                Some(Type::Struct(_)) => self.fields(|_, value| value.skip()),
                Some(Type::Array { .. } | Type::Slice { .. }) => {
                    self.elements(|value| value.skip())
                }
                Some(&Type::Map { key, element }) => {
                    let depth = self.deeper()?;
                    for _ in 0..self.cursor.length()? {
                        for id in [key, element] {
                            let cursor = &mut *self.cursor;
                            Value { types: self.types, cursor, id, depth }.skip()?;
                        }
                    }
                    Ok(())
                }
                Some(Type::Custom) => self.cursor.counted().map(drop),
                None => Err(GobError::UnknownType { id }),
            },
        }
    }

    fn expect(&self, id: i64, wanted: &'static str) -> Result<(), GobError> {
        if self.id == id { Ok(()) } else { Err(GobError::Mismatch { id: self.id, wanted }) }
    }

    fn deeper(&self) -> Result<u32, GobError> {
        if self.depth >= MAX_DEPTH { Err(GobError::TooDeep) } else { Ok(self.depth + 1) }
    }
}

/// The bytes of a message that have not been read yet.
#[derive(Debug)]
struct Cursor<'b> {
    rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], GobError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(GobError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn uint(&mut self) -> Result<u64, GobError> {
        let (&first, rest) = self.rest.split_first().ok_or(GobError::Truncated)?;
        self.rest = rest;
        match uint_width(first)? {
            None => Ok(u64::from(first)),
            Some(width) => Ok(big_endian(self.take(width)?)),
        }
    }

    fn int(&mut self) -> Result<i64, GobError> {
        let raw = self.uint()?;
        let half = (raw >> 1).cast_signed();
        Ok(if raw & 1 == 1 { !half } else { half })
    }

    /// Reads a count of bytes or of values. Each value takes a byte at least, so no honest count is
    /// more than the bytes that are left.
    fn length(&mut self) -> Result<usize, GobError> {
        let number = self.uint()?;
        let length = usize::try_from(number)
            .map_err(|_| GobError::OutOfRange { what: "a length", number })?;
        if length > self.rest.len() { Err(GobError::Truncated) } else { Ok(length) }
    }

    fn counted(&mut self) -> Result<&'b [u8], GobError> {
        let length = self.length()?;
        self.take(length)
    }

    fn end(&self) -> Result<(), GobError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(GobError::TrailingBytes { bytes }),
        }
    }
}

/// Tells from a number's first byte how many bytes follow it; `None` if it is the number itself.
///
/// # Errors
/// [`GobError::NumberTooLong`] for more than eight.
pub fn uint_width(first: u8) -> Result<Option<usize>, GobError> {
    match first {
        0..=0x7f => Ok(None),
        0xf8..=0xff => Ok(Some(usize::from(first.wrapping_neg()))),
        _ => Err(GobError::NumberTooLong { bytes: first.wrapping_neg() }),
    }
}

/// Puts together a number from the bytes after its first one, at most eight.
pub fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a Go program wrote for a struct with a map, interfaces holding an `int`, an array, a
    /// complex number, a pointer to its own type, extreme integers, a `time.Time` and a slice of maps.
    const WEIRD: &[&str] = &[
        "7f03010105576569726401ff8000010b0105457874726101ff84000103416e7901100001075061796c6f6164010a00\
         010341727201ff8600010143010e0001064e657374656401ff8000010342696701060001034e65670104000104466c\
         6167010200010454696d6501ff880001054974656d7301ff8c000000",
        "ff83040101106d61705b737472696e675d5b5d696e7401ff8400010c01ff820000",
        "ff81020102ff820001040000",
        "ff850101010a5b335d666c6f6174363401ff8600010801060000",
        "ff870501010454696d6501ff88000000",
        "ff8b020101115b5d6d61705b737472696e675d626f6f6c01ff8c0001ff8a0000",
        "ff89040102ff8a00010c01020000",
        "ff8001010161030203fe02580103696e740402000a01037061790103fef03f00fe044001fef03f40010203696e7404\
         02000e0105696e6e657201030000000001f8800000000000000001f8ffffffffffffffff0101010f010000000e7791\
         f70100000002ffff0102010174010000",
    ];

    fn hex(text: &str) -> Vec<u8> {
        let digit = |byte: u8| u8::try_from((byte as char).to_digit(16).unwrap()).unwrap();
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn skip_all(decoder: &mut Decoder, message: &[u8]) -> Result<Option<()>, GobError> {
        decoder.message(message, |value| value.skip())
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (number, bytes) in [
            (0, "00"),
            (7, "07"),
            (127, "7f"),
            (128, "ff80"),
            (256, "fe0100"),
            (u64::MAX, "f8ffffffffffffffff"),
        ] {
            let mut out = Vec::new();
            put_uint(&mut out, number);
            assert_eq!(out, hex(bytes), "{number}");
            assert_eq!(Cursor { rest: &out }.uint(), Ok(number));
        }
        for (number, bytes) in
            [(0, "00"), (-1, "01"), (64, "ff80"), (-65, "ff81"), (-129, "fe0101")]
        {
            let mut out = Vec::new();
            put_int(&mut out, number);
            assert_eq!(out, hex(bytes), "{number}");
        }
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            let mut out = Vec::new();
            put_int(&mut out, number);
            assert_eq!(Cursor { rest: &out }.int(), Ok(number));
        }
        assert_eq!(
            Cursor { rest: &[0x80; 200] }.uint(),
            Err(GobError::NumberTooLong { bytes: 128 })
        );
        assert_eq!(Cursor { rest: &[0xf8, 1] }.uint(), Err(GobError::Truncated));
    }

    fn weird() -> Vec<Vec<u8>> {
        WEIRD.iter().map(|text| hex(text)).collect()
    }

    fn with_weird_types() -> (Decoder, Vec<u8>) {
        let mut decoder = Decoder::default();
        let mut messages = weird();
        let value = messages.pop().unwrap();
        for definition in &messages {
            assert_eq!(skip_all(&mut decoder, definition), Ok(None));
        }
        (decoder, value)
    }

    #[test]
    fn fields_are_found_by_name_and_the_rest_is_skipped() {
        let (mut decoder, value) = with_weird_types();
        let mut seen = Vec::new();
        let (mut payload, mut inner, mut big, mut neg, mut flag) = (&[][..], &[][..], 0, 0, false);
        let read = decoder.message(&value, |weird| {
            weird.fields(|name, value| {
                seen.push(name.to_owned());
                match name {
                    "Payload" => payload = value.bytes()?,
                    "Big" => big = value.uint()?,
                    "Neg" => neg = value.int()?,
                    "Flag" => flag = value.boolean()?,
                    "Nested" => value.fields(|name, value| match name {
                        "Payload" => value.bytes().map(|bytes| inner = bytes),
                        _ => value.skip(),
                    })?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        });
        assert_eq!(read, Ok(Some(())));
        let all = "Extra Any Payload Arr C Nested Big Neg Flag Time Items";
        assert_eq!(seen.join(" "), all);
        assert_eq!((payload, inner), (&b"pay"[..], &b"inner"[..]));
        assert_eq!((big, neg, flag), (1 << 63, i64::MIN, true));
        assert_eq!(skip_all(&mut decoder, &value), Ok(Some(())), "all skipped as one");
    }

    #[test]
    fn a_bare_slice_is_read() {
        let mut decoder = Decoder::default();
        assert_eq!(skip_all(&mut decoder, &hex("ff8d020102ff8e00010c0000")), Ok(None));
        let value = hex("ff8e000203746f70056c6576656c");
        let mut texts = Vec::new();
        let read = decoder.message(&value, |slice| {
            slice.elements(|element| element.text().map(|text| texts.push(text.into_owned())))
        });
        assert_eq!((read, texts.join(" ").as_str()), (Ok(Some(())), "top level"));
    }

    #[test]
    fn every_cut_is_an_error() {
        let (mut decoder, value) = with_weird_types();
        for end in 0..value.len() {
            assert!(skip_all(&mut decoder, &value[..end]).is_err(), "cut at {end}");
        }
        for text in WEIRD {
            let message = hex(text);
            for end in 0..message.len() {
                assert!(
                    skip_all(&mut Decoder::default(), &message[..end]).is_err(),
                    "cut at {end}"
                );
            }
        }
    }

    #[test]
    fn hostile_messages_are_refused() {
        use GobError::*;
        // Definitions to start from: 65 = []65, 66 = struct { A string; B interface }.
        let recursive = "ff81020102ff82 00 01ff82 0000";
        let structure = "ff83 03 01 00 01 02 01 0141 010c 00 01 0142 0110 00 00 00";
        for (what, messages, expected) in [
            ("nothing", vec![""], Truncated),
            ("a type of gob's own", vec!["0303010001000000"], BadTypeDefinition { id: 2 }),
            ("the smallest number", vec!["f8ffffffffffffffff"], BadTypeDefinition { id: i64::MIN }),
            ("the same type twice", vec![recursive, recursive], BadTypeDefinition { id: 65 }),
            ("a definition of nothing", vec!["ff8100"], BadTypeDefinition { id: 65 }),
            (
                "bytes after a definition",
                vec!["ff81020102ff820001ff82000000"],
                TrailingBytes { bytes: 1 },
            ),
            ("an unknown type", vec!["ff9c0000"], UnknownType { id: 78 }),
            ("a long number", vec!["8101"], NumberTooLong { bytes: 127 }),
            ("a text longer than the message", vec![structure, "ff8401fd7fffff41"], Truncated),
            ("a length of 2^64-1", vec![structure, "ff8401f8ffffffffffffffff41"], Truncated),
            (
                "a field that is not there",
                vec![structure, "ff84030100"],
                UnknownField { number: 3 },
            ),
            (
                "field numbers that overflow",
                vec![structure, "ff84010141f8ffffffffffffffff00"],
                UnknownField { number: u64::MAX },
            ),
            (
                "an interface with a new type",
                vec![structure, "ff840201410300"],
                InterfaceDefinesType,
            ),
            ("more elements than bytes", vec![recursive, "ff820064010100"], Truncated),
        ] {
            let mut decoder = Decoder::default();
            let mut last = Ok(None);
            for message in &messages {
                last = skip_all(&mut decoder, &hex(&message.replace(' ', "")));
            }
            assert_eq!(last, Err(expected), "{what}");
        }
    }

    #[test]
    fn depth_types_fields_and_names_are_counted() {
        let mut decoder = Decoder::default();
        assert_eq!(skip_all(&mut decoder, &hex("ff81020102ff820001ff820000")), Ok(None));
        let mut nested = hex("ff8200");
        nested.extend([1; 100_000]);
        assert_eq!(skip_all(&mut decoder, &nested), Err(GobError::TooDeep));

        let definition = |id: i64, members: usize, name_bytes: usize| {
            let name = "n".repeat(name_bytes);
            let mut message = Vec::new();
            put_int(&mut message, -id);
            message.extend([3, 2]); // StructT, its Field
            put_uint(&mut message, members as u64);
            for _ in 0..members {
                put_struct(&mut message, &[Item::Text(&name), Item::Int(INT)]);
            }
            message.extend([0, 0]);
            message
        };
        let mut decoder = Decoder::default();
        assert_eq!(skip_all(&mut decoder, &definition(90, 65, 1)), Err(GobError::TooManyFields));
        assert_eq!(skip_all(&mut decoder, &definition(90, 1, 257)), Err(GobError::NameTooLong));
        for id in 0..64 {
            assert_eq!(skip_all(&mut decoder, &definition(100 + id, 64, 256)), Ok(None), "{id}");
        }
        assert_eq!(skip_all(&mut decoder, &definition(200, 1, 1)), Err(GobError::TooManyTypes));
    }

    #[test]
    fn a_value_of_another_type_is_a_mismatch() {
        let (mut decoder, value) = with_weird_types();
        let read =
            decoder.message(&value, |weird| weird.fields(|_, value| value.bytes().map(drop)));
        assert_eq!(read, Err(GobError::Mismatch { id: 66, wanted: "bytes" }));
        assert_eq!(
            GobError::Mismatch { id: 66, wanted: "bytes" }.to_string(),
            "gob value of type `66` where bytes is expected"
        );
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        static INNER: Shape = Shape { name: "Inner", id: 71, fields: &[("Count", Kind::Int)] };
        static OUTER: Shape = Shape {
            name: "Outer",
            id: 70,
            fields: &[
                ("Absent", Kind::Bytes),
                ("Text", Kind::Text),
                ("Inner", Kind::Struct(&INNER)),
            ],
        };
        let mut encoder = Encoder::default();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let items = [Item::Bytes(b""), Item::Text("grün"), Item::Struct(&[Item::Int(-3)])];
        encoder.encode(&OUTER, &items, &mut first);
        encoder.encode(&OUTER, &items, &mut second);
        assert!(first.ends_with(&second) && first.len() > second.len(), "types are sent once");

        let mut decoder = Decoder::default();
        let mut rest = Cursor { rest: &first };
        let mut values = Vec::new();
        while !rest.rest.is_empty() {
            let message = rest.counted().unwrap();
            let read = decoder.message(message, |outer| {
                let mut found = (String::new(), 0);
                outer.fields(|name, value| match name {
                    "Text" => value.text().map(|text| found.0 = text.into_owned()),
                    "Inner" => value.fields(|_, count| count.int().map(|count| found.1 = count)),
                    _ => panic!("a zero value was sent"),
                })?;
                Ok(found)
            });
            values.extend(read.unwrap());
        }
        assert_eq!(values, [("grün".to_owned(), -3)]);
    }

    proptest! {
        #[test]
        fn numbers_come_back(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            put_uint(&mut out, unsigned);
            put_int(&mut out, signed);
            let mut cursor = Cursor { rest: &out };
            prop_assert_eq!(cursor.uint(), Ok(unsigned));
            prop_assert_eq!(cursor.int(), Ok(signed));
            prop_assert_eq!(cursor.end(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic(messages: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for message in &messages {
                let _ = skip_all(&mut decoder, message);
            }
        }

        #[test]
        fn no_damage_makes_it_panic(damage: Vec<(prop::sample::Index, prop::sample::Index, u8)>) {
            let mut messages = weird();
            for (message, at, byte) in damage {
                let message = message.get_mut(&mut messages);
                *at.get_mut(message) = byte;
            }
            let mut decoder = Decoder::default();
            for message in &messages {
                let _ = skip_all(&mut decoder, message);
            }
        }
    }
}
