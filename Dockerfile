# The demo in a container, with the network that ships:
#
#     docker build -t minicity-seg .
#     docker run -p 127.0.0.1:7860:7860 minicity-seg
#     docker run -p 127.0.0.1:7860:7860 -v "$PWD/runs:/app/runs:ro" minicity-seg --model_name_or_path runs/NAME
FROM python:3.11-slim
WORKDIR /app
# torch and torchvision must come from one index. These are builds for CPUs, in the newest version.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY . .
RUN pip install --no-cache-dir --editable . && useradd --create-home --uid 1000 demo
USER 1000
EXPOSE 7860
ENTRYPOINT ["python", "app_gradio.py", "--server_name", "0.0.0.0", "--server_port", "7860"]
