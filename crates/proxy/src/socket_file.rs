//! The file that a Unix socket is reached by.
//!
//! The system leaves it behind when its listener ends, and in the way of the next. So it is removed here: by whoever
//! listens, in the end, and by the next one where that did not come to it. But never from under somebody who listens
//! there, whose clients would come here from then on; and never what is no socket, which is somebody's file.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket that is listened on. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Which one it is: at the same path there may be another by now, which is not ours.
    identity: Option<(u64, u64)>,
}

/// Listens there; non-blocking.
///
/// # Errors
/// Somebody listens there, or something is there that is no socket: the address is in use. Or it cannot be made.
pub(crate) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    remove_orphan(path)?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path) };
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}

fn remove_orphan(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata().is_ok_and(|data| data.file_type().is_socket()) {
        return Ok(());
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full would not say so for as long as it is.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|data| (data.dev(), data.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::AddrInUse;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A path that nothing is at, before and after.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("service-mesh-{name}-{}.sock", std::process::id())))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_a_listener_left_behind_is_replaced_and_what_we_leave_is_removed() {
        let Place(path) = &Place::new("orphan");
        drop(UnixListener::bind(path).unwrap());
        let (listener, file) = bind(path).unwrap();
        assert!(UnixStream::connect(path).is_ok());
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn nobody_is_pushed_from_his_place() {
        let Place(path) = &Place::new("taken");
        let taken = UnixListener::bind(path).unwrap();
        assert_eq!(bind(path).unwrap_err().kind(), AddrInUse);
        let _client = UnixStream::connect(path).unwrap();
        assert!(taken.accept().is_ok() && taken.accept().is_ok(), "the look, and a client");
    }

    #[test]
    fn what_is_no_socket_stays() {
        let Place(path) = &Place::new("file");
        std::fs::write(path, "mine").unwrap();
        assert_eq!(bind(path).unwrap_err().kind(), AddrInUse);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_took_our_place_is_not_ours_to_remove() {
        let Place(path) = &Place::new("other");
        let (_listener, file) = bind(path).unwrap();
        let aside = Place::new("aside");
        std::fs::rename(path, &aside.0).unwrap();
        let _other = UnixListener::bind(path).unwrap();
        drop(file);
        assert!(UnixStream::connect(path).is_ok());
    }
}
