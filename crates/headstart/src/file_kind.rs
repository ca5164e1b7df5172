//! What is at a path that is no file, by name.

use std::fs::FileType;

/// What a path leads to, for messages: pipes, sockets and devices are never waited for.
pub(crate) fn kind(of: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;

        if of.is_fifo() {
            return "a named pipe (FIFO), not a file";
        }
        if of.is_socket() {
            return "a socket, not a file";
        }
        if of.is_block_device() || of.is_char_device() {
            return "a device, not a file";
        }
    }
    match (of.is_file(), of.is_dir()) {
        (true, _) => "a file",
        (_, true) => "a folder, not a file",
        _ => "something other than a file",
    }
}
