//! The TCP sockets of a process, as the kernel lists them.

use std::fs;

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) connected: bool,
    pub(crate) listening: bool,
}

/// The sockets that a process has open.
pub(crate) fn of(process: u32) -> Vec<Socket> {
    let open: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")));
    let lines: String = tables.into_iter().filter_map(Result::ok).collect();
    let sockets = lines.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = |field: usize| u16::from_str_radix(fields.get(field)?.rsplit(':').next()?, 16).ok();
        let inode = format!("socket:[{}]", fields.get(9)?);
        let (local_port, remote_port, state) = (port(1)?, port(2)?, fields[3]);
        let socket = Socket { local_port, remote_port, connected: state == "01", listening: state == "0A" };
        open.contains(&inode).then_some(socket)
    });
    sockets.collect()
}
