use std::future::Future;

/// Runs hyper's HTTP/2 tasks on the thread they were made on, so that nothing of a request
/// needs to be `Send`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
