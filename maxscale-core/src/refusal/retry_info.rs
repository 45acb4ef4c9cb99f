//! `google.rpc.RetryInfo` in a `google.rpc.Status`, as `grpc-status-details-bin`
//! carries it: few fixed fields, so they are written here and need no generator.

use std::time::Duration;

const TYPE: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// The text of the header, for clients that look for when to try again.
pub(super) fn header(status: u16, told: &str, wait: Duration) -> String {
    // Duration { int64 seconds = 1; int32 nanos = 2 }
    let mut time = Vec::new();
    // Beyond what protocol buffers call a duration: ten thousand years.
    number(&mut time, 1, wait.as_secs().min(315_576_000_000));
    number(&mut time, 2, wait.subsec_nanos().into());
    // RetryInfo { Duration retry_delay = 1 }
    let mut info = Vec::new();
    bytes(&mut info, 1, &time);
    // Any { string type_url = 1; bytes value = 2 }
    let mut any = Vec::new();
    bytes(&mut any, 1, TYPE);
    bytes(&mut any, 2, &info);
    // Status { int32 code = 1; string message = 2; repeated Any details = 3 }
    let mut all = Vec::new();
    number(&mut all, 1, status.into());
    bytes(&mut all, 2, told.as_bytes());
    bytes(&mut all, 3, &any);
    base64(&all)
}

/// A number that is not zero, which stands for itself by being absent.
fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value > 0 {
        out.push(field << 3);
        varint(out, value);
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Without padding, as gRPC writes binary headers.
fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = data.chunks(3).flat_map(|three| {
        let bits = [0, 1, 2].map(|at| u32::from(three.get(at).copied().unwrap_or(0)));
        let bits = bits[0] << 16 | bits[1] << 8 | bits[2];
        let digit = move |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
        (0..=three.len()).map(digit)
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_grpc_writes_binary_headers() {
        let cases: [(&[u8], &str); 5] = [
            (b"", ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A"),
        ];
        for (data, text) in cases {
            assert_eq!(base64(data), text);
        }
    }

    #[test]
    fn wait_is_told_in_the_fields_of_a_retry_info() {
        let header = header(8, "slow", Duration::from_millis(1_200));
        let mut expected = b"\x08\x08\x12\x04slow\x1a\x35\x0a\x28".to_vec();
        expected.extend(TYPE);
        expected.extend(b"\x12\x09\x0a\x07\x08\x01\x10\x80\x84\xaf\x5f");
        assert_eq!(header, base64(&expected));
    }
}
