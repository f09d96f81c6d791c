//! A listener with patience: limits on connections and on slow clients.
//!
//! axum's server has no deadline for reading a request. Here a connection ends when a request that was
//! begun is not whole and answered in time, or when nothing comes for a while; and there is a cap on how
//! many are open, so that an idle crowd costs little memory.

use axum::serve::Listener;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Open connections at once: probes, a few scrapers, a few people.
const CONNECTIONS: usize = 64;
/// From the first byte of a request to the first byte of its answer.
const REQUEST: Duration = Duration::from_secs(10);
/// Between requests; longer than usual scrape intervals, so that scrapers keep their connection.
const IDLE: Duration = Duration::from_secs(90);

pub(super) struct Patient {
    inner: TcpListener,
    slots: Arc<Semaphore>,
}

impl Patient {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self { inner, slots: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Listener for Patient {
    type Io = Timed<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a permit the connection would just not be counted.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.inner).await;
        (Timed::new(stream, slot), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that gives up on a client that takes too long.
pub(super) struct Timed<S> {
    inner: S,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes of a request have come that is not being answered yet.
    begun: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<S> Timed<S> {
    fn new(inner: S, slot: Option<OwnedSemaphorePermit>) -> Self {
        // A fresh connection has a request's time, not an idle one's, to send its first.
        Self { inner, deadline: Box::pin(sleep(REQUEST)), begun: true, _slot: slot }
    }

    fn allow(&mut self, time: Duration) {
        self.deadline.as_mut().reset(Instant::now() + time);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.inner).poll_read(cx, buf) {
            if buf.filled().len() > before && !this.begun {
                this.begun = true;
                this.allow(REQUEST);
            }
            // A trickle of bytes does not move the deadline, and must not outrun it.
            if Instant::now() >= this.deadline.deadline() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Ready(result);
        }
        match this.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(_)) = result {
            this.begun = false;
            this.allow(IDLE);
        } else if result.is_pending() && this.deadline.as_mut().poll(cx).is_ready() {
            // The client does not read its answer.
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_dropped() {
        let (_client, server) = duplex(64);
        let start = Instant::now();
        let error = Timed::new(server, None).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_does_not_move_the_deadline() {
        let (mut client, server) = duplex(64);
        let start = Instant::now();
        let trickle = async {
            while client.write_u8(b'x').await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let read = async {
            let mut timed = Timed::new(server, None);
            loop {
                if let Err(error) = timed.read_u8().await {
                    return error.kind();
                }
            }
        };
        let (kind, ()) = tokio::join!(read, trickle);
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(start.elapsed() <= REQUEST + Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_always_there_do_not_outrun_the_deadline() {
        let (mut client, server) = duplex(64);
        let mut timed = Timed::new(server, None);
        client.write_all(b"xy").await.unwrap();
        assert_eq!(timed.read_u8().await.unwrap(), b'x');
        tokio::time::advance(REQUEST).await;
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_may_keep_its_connection_between_scrapes() {
        let (mut client, server) = duplex(64);
        let mut timed = Timed::new(server, None);
        for _ in 0..5 {
            client.write_u8(b'q').await.unwrap();
            assert_eq!(timed.read_u8().await.unwrap(), b'q');
            timed.write_u8(b'a').await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'a');
            sleep(Duration::from_secs(60)).await;
        }
    }
}
