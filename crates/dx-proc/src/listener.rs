//! Whose program listens on a port of this machine.
//!
//! Called by the engine before it trusts what it finds where nobody named it. Must never decide what to make of it.

use std::fs;

/// The state of a socket that listens, as the kernel writes it.
const LISTENS: &str = "0A";

/// The user ids of those who listen on this port, on whatever address. Empty when nobody does, or none can be seen.
pub fn users(port: u16) -> Vec<u32> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| of_table(&table, port))
        .collect()
}

fn of_table(table: &str, port: u16) -> Vec<u32> {
    let user = |line: &str| {
        // Number, local address, remote address, state, queues, timer, retransmits, user.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, user, ..] = words.as_slice() else { return None };
        let at = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        user.parse().ok().filter(|_| at == port && *state == LISTENS)
    };
    table.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_seen_and_who_is_connected_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = rustix::process::geteuid().as_raw();
        assert_eq!(users(port), [ours]);
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1000 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1 1\n\
                     1: 0100007F:1000 0100007F:A000 01 00000000:00000000 00:00000000 00000000  1000        0 2 1\n";
        assert_eq!((of_table(table, 0x1000), of_table(table, 1)), (vec![65534], vec![]));
    }
}
