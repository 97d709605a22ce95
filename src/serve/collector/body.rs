//! The body of a request: read within limits of size and time, and unpacked within the same limits.

use std::io::Read as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::budget::Share;
use super::refusal::Refusal;

/// The limits of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most bytes, before and after unpacking.
    pub(super) bytes: usize,
    /// How long a client may send nothing.
    pub(super) silence: Duration,
    /// How long all of it may take.
    pub(super) whole: Duration,
}

/// How much of a refused body is read and thrown away, so that a client that is still sending gets to read the answer.
const DISCARD: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// All of the body, as it was sent.
pub(super) async fn read<B>(mut body: B, bounds: &Bounds, share: &mut Share) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let end = Instant::now() + bounds.whole;
    if body.size_hint().lower() > bounds.bytes as u64 {
        discard(body).await;
        return Err(Refusal::TooLarge { limit: bounds.bytes, unpacked: false });
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let patience = (Instant::now() + bounds.silence).min(end);
        let frame = match timeout_at(patience, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(Refusal::Cut),
            Err(_) => return Err(Refusal::Slow),
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > bounds.bytes {
            drop(all);
            share.clear();
            discard(body).await;
            return Err(Refusal::TooLarge { limit: bounds.bytes, unpacked: false });
        }
        if share.grow(data.len() as u64).is_err() {
            drop(all);
            share.clear();
            discard(body).await;
            return Err(Refusal::Overloaded);
        }
        if all.is_empty() && first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                let announced = first.len() + data.len() + body.size_hint().lower() as usize;
                all.reserve(announced.min(bounds.bytes));
                all.extend_from_slice(&first);
                first = Bytes::new();
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads what a client is still sending, for a while.
pub(super) async fn discard<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let end = Instant::now() + DISCARD_TIME;
    let mut seen = 0;
    while seen < DISCARD
        && let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await
    {
        seen += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The content of a gzip file, of one member or several.
///
/// A small file can hold an endless content: no more than the limit is ever unpacked, and no memory is taken for what will be
/// refused.
pub(super) fn gunzip(packed: &[u8], limit: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    let too_large = Refusal::TooLarge { limit, unpacked: true };
    if packed.is_empty() {
        return Ok(Bytes::new());
    }
    // A file says at its end how long the content of its last member is (RFC 1952, ISIZE).
    let is_gzip = packed.starts_with(&[0x1f, 0x8b]);
    let announced = packed.last_chunk::<4>().filter(|_| is_gzip).map_or(0, |size| u32::from_le_bytes(*size) as usize);
    // Deflate shrinks to no less than a 1032nd: a size beyond that is none, but the end of a file that was cut.
    if announced > limit && announced / 1032 <= packed.len() {
        return Err(too_large);
    }
    // Hardly any telemetry shrinks to a hundredth: before memory is taken for such a file, its content is measured.
    let believable = announced <= limit && announced / 100 <= packed.len();
    if believable && let Some(content) = unpack(packed, announced, share)? {
        return Ok(content);
    }
    let length = measure(packed, limit)?.ok_or(too_large)?;
    unpack(packed, length, share)?
        .ok_or_else(|| Refusal::Undecodable("unpacking the gzip body: its size changes".to_owned()))
}

/// The content, if it has that length or less; `None` if there is more.
fn unpack(packed: &[u8], length: usize, share: &mut Share) -> Result<Option<Bytes>, Refusal> {
    share.grow(length as u64).map_err(|_| Refusal::Overloaded)?;
    let mut content = Vec::with_capacity(length);
    let mut decoder = MultiGzDecoder::new(packed);
    decoder.by_ref().take(length as u64).read_to_end(&mut content).map_err(damaged)?;
    if decoder.read(&mut [0]).map_err(damaged)? == 0 {
        return Ok(Some(content.into()));
    }
    share.shrink(length as u64);
    Ok(None)
}

/// The length of the content, if it is within the limit.
fn measure(packed: &[u8], limit: usize) -> Result<Option<usize>, Refusal> {
    let mut decoder = MultiGzDecoder::new(packed).take(limit as u64 + 1);
    let length = std::io::copy(&mut decoder, &mut std::io::sink()).map_err(damaged)? as usize;
    Ok((length <= limit).then_some(length))
}

fn damaged(error: std::io::Error) -> Refusal {
    Refusal::Undecodable(format!("unpacking the gzip body: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::serve::app::Traffic;
    use crate::serve::collector::budget::Budget;

    fn share() -> Share {
        Budget::new(1 << 30, 1, Arc::new(Traffic::default())).enter().expect("room")
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn content_comes_back_and_no_more_than_the_limit_is_unpacked() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let limit = content.len();
        assert_eq!(gunzip(&gzip(&content), limit, &mut share()).as_deref(), Ok(&content[..]));
        let refused = Err(Refusal::TooLarge { limit: limit - 1, unpacked: true });
        assert_eq!(gunzip(&gzip(&content), limit - 1, &mut share()), refused);
        let zeros = gzip(&vec![0; 100_000]);
        assert_eq!(gunzip(&zeros, 100_000, &mut share()).map(|all| all.len()), Ok(100_000), "a thousand to one");
        assert_eq!(gunzip(&zeros, 99_999, &mut share()), Err(Refusal::TooLarge { limit: 99_999, unpacked: true }));
        // Several members: the last one's size says nothing of the whole.
        let members = [gzip(&content), gzip(b"x")].concat();
        assert_eq!(gunzip(&members, limit + 1, &mut share()).map(|all| all.len()), Ok(limit + 1));
        assert_eq!(gunzip(&members, limit, &mut share()), Err(Refusal::TooLarge { limit, unpacked: true }));
    }

    #[test]
    fn what_is_no_gzip_file_is_undecodable() {
        let mut cut = gzip(b"hello");
        cut.truncate(cut.len() - 9);
        for packed in [&b"plain"[..], &cut] {
            assert!(matches!(gunzip(packed, 1 << 20, &mut share()), Err(Refusal::Undecodable(_))));
        }
        assert_eq!(gunzip(b"", 1 << 20, &mut share()).as_deref(), Ok(&b""[..]), "nothing is nothing");
    }
}
