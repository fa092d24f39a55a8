//! A SOCKS 5 server (RFC 1928, RFC 1929), just large enough to be one.

use std::io::{Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// The server, and the hosts that clients requested.
pub(crate) struct Socks {
    pub(crate) port: u16,
    pub(crate) hosts: Receiver<String>,
}

/// Starts one; it knows `relay.test`. With a login it insists on it, and with a reply it gives that instead of a
/// connection.
pub(crate) fn socks(login: Option<(&'static str, &'static str)>, reply: u8) -> Socks {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, hosts) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream, login, reply, |host| drop(sender.send(host))));
        }
    });
    Socks { port, hosts }
}

fn take<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

fn text(stream: &mut TcpStream) -> Result<String> {
    let [length] = take(stream)?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn serve(mut stream: TcpStream, login: Option<(&str, &str)>, reply: u8, note: impl Fn(String)) -> Result<()> {
    let [5, count] = take(&mut stream)? else { return Ok(()) };
    let mut methods = vec![0; count.into()];
    stream.read_exact(&mut methods)?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 255]);
    }
    stream.write_all(&[5, method])?;
    if let Some((user, password)) = login {
        let [1] = take(&mut stream)? else { return Ok(()) };
        let known = (text(&mut stream)?, text(&mut stream)?) == (user.to_owned(), password.to_owned());
        stream.write_all(&[1, u8::from(!known)])?;
        if !known {
            return Ok(());
        }
    }
    let [5, 1, 0, kind] = take(&mut stream)? else { return Ok(()) };
    let host = match kind {
        1 => IpAddr::from(Ipv4Addr::from(take::<4>(&mut stream)?)).to_string(),
        4 => IpAddr::from(Ipv6Addr::from(take::<16>(&mut stream)?)).to_string(),
        _ => text(&mut stream)?,
    };
    let port = u16::from_be_bytes(take(&mut stream)?);
    note(host.clone());
    if reply != 0 {
        return stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    let host = if host == "relay.test" { "127.0.0.1".to_owned() } else { host };
    let far = TcpStream::connect((host, port))?;
    // Bound to a name, which is rare and allowed.
    stream.write_all(b"\x05\0\0\x03\x04here\0\x01")?;
    join(stream, far)
}

/// Copies both ways until both have ended.
fn join(near: TcpStream, far: TcpStream) -> Result<()> {
    let (mut back_from, mut back_to) = (far.try_clone()?, near.try_clone()?);
    let (mut from, mut to) = (near, far);
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}
