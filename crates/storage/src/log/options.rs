//! How large the log's files are, and when those no longer needed are purged.

/// Settings of a [`Log`](super::Log).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A file is full at this size, in bytes. Files are purged and recycled as a whole.
    pub file_bytes: u64,
    /// Once the files hold more than this many bytes, [`Log::purge`](super::Log::purge) looks for files to purge. Purged ones
    /// are kept for recycling up to 1.5 times as much, so that steady writing does not grow files.
    pub purge_bytes: u64,
}

impl LogOptions {
    /// For a log that is trimmed when it outgrows `trim_bytes` (the classic `maxraftstate`); none: never. The disk holds at most about twice
    /// that, or what a leader leaves for its followers, and never less than some megabytes.
    pub fn for_trim_bytes(trim_bytes: Option<u64>) -> LogOptions {
        let Some(trim_bytes) = trim_bytes else {
            return LogOptions { file_bytes: FILE_BYTES_MAX, purge_bytes: u64::MAX >> 1 };
        };
        let file_bytes = (trim_bytes / 8).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        LogOptions { file_bytes, purge_bytes: trim_bytes.max(4 * file_bytes) }
    }
}

/// Below this, creating files would show.
const FILE_BYTES_MIN: u64 = 1 << 20;
/// Above this, a start would read too much at once.
const FILE_BYTES_MAX: u64 = 32 << 20;
