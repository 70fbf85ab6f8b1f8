"""Serve fastapi_app.py with gunicorn: several processes, preloading, recycling. Run `gunicorn -c gunicorn.conf.py`."""

wsgi_app = "fastapi_app:app"
bind = "127.0.0.1:8000"
worker_class = "asgi"  # gunicorn's own; `uvicorn_worker.UvicornWorker` works as well
workers = 2

# The parent imports the application once. That is harmless for async calls: only a call in the parent would spoil BAML for its children,
# and the lifespan, which makes the first one possible, runs in the workers. With blocking calls leave this off.
preload_app = True

# A worker that ends answers its last requests and writes its last rows, like one that gets SIGTERM.
max_requests = 1000
max_requests_jitter = 100
graceful_timeout = 60  # as long as the deadline of a call
timeout = 120
