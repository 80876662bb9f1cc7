//! Connections: who may have one, for how long, and how they end.

use super::patient::Patient;
use super::site::Site;
use crate::error::{Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::TcpListener as Listener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// Time for the headers of a request, and for the next request of a connection to begin.
const HEADERS_TIME: Duration = Duration::from_secs(30);
/// Time in which a client must take something of its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a request's headers.
const HEADERS_BYTES: usize = 32 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// Connections beside those of requests that have places.
const SPARE_CONNECTIONS: usize = 128;
/// Threads that read bodies and encode prompts.
const READERS: usize = 4;
/// Time that answers under way have after the server was asked to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether it was.
const TICK: Duration = Duration::from_millis(50);

/// Answers requests on `listener` until `over` says so and those under way are answered.
pub(super) fn serve(listener: Listener, site: Site, over: impl Fn() -> bool) -> Result<()> {
    let io = |e| Error::io("the network", e);
    listener.set_nonblocking(true).map_err(io)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(READERS).build().map_err(io)?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).map_err(io)?;
        accept(listener, Arc::new(site), over).await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, site: Arc<Site>, over: impl Fn() -> bool) {
    let room = Arc::new(Semaphore::new(site.places() + SPARE_CONNECTIONS));
    let (tell, told) = watch::channel(());
    let (mut connections, mut tick) = (JoinSet::new(), interval(TICK));
    let next = async || {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        (permit, listener.accept().await)
    };
    let mut coming = Box::pin(next());
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            _ = tick.tick() => {
                if over() {
                    break;
                }
            }
            (permit, stream) = &mut coming => {
                match stream {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, site.clone(), told.clone(), permit));
                    }
                    // No more files may be open: wait until a connection ends.
                    Err(_) => sleep(TICK).await,
                }
                coming = Box::pin(next());
            }
        }
    }
    drop(coming);
    drop(listener);
    let _ = tell.send(());
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(stream: TcpStream, site: Arc<Site>, mut told: watch::Receiver<()>, _permit: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true); // tokens are sent as they come
    let service = service_fn(|request| async { Ok::<_, Infallible>(site.answer(request).await) });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIME).max_buf_size(HEADERS_BYTES).max_headers(HEADERS);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(Patient::new(stream, PATIENCE)), service));
    tokio::select! {
        // An error is a client that has gone or does not speak HTTP: nobody is left to be told.
        _ = serving.as_mut() => return,
        _ = told.changed() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}
