"""Short programs that run a file."""

from __future__ import annotations

import json

from fastzoo.records import Bundle, LayoutFile


def python(bundle: Bundle, precision: str, layout: str, file: LayoutFile, state: int) -> str:
    """With fastzoo, and with onnxruntime alone."""
    steps, channels = bundle.input.steps, len(bundle.input.channels)
    entries = "".join(
        f"options.add_session_config_entry({json.dumps(key)}, {json.dumps(value)})\n"
        for key, value in file.session.items()
    )
    opened = (
        "import numpy as np, onnxruntime\n\n"
        f"options = onnxruntime.SessionOptions()\noptions.intra_op_num_threads = 1\n{entries}"
        f"session = onnxruntime.InferenceSession({json.dumps(file.file)}, options, "
        'providers=["CPUExecutionProvider"])\n'
    )
    if layout == "step":
        return (
            f"{opened}state = np.zeros((1, {state}), np.float32)\n"
            f"for x in samples:  # float32 [1, {channels}], raw units\n"
            '    logits, state = session.run(["logits", "state_next"], {"x": x, "state": state})\n'
        )
    return (
        "import fastzoo\n\n"
        f"model = fastzoo.load({json.dumps(bundle.name)}, precision={json.dumps(precision)}, "
        f"layout={json.dumps(layout)})  # the bundle's folder\n"
        f"print(model.predict(windows))  # [N, {steps}, {channels}], raw units\n\n# or without fastzoo\n"
        f'{opened}(logits,) = session.run(["logits"], {{"x": windows.astype(np.float32)}})\n'
    )


def cpp(bundle: Bundle, layout: str, file: LayoutFile, state: int) -> str:
    """With onnxruntime's C++ interface."""
    steps, channels, classes = bundle.input.steps, len(bundle.input.channels), len(bundle.labels)
    entries = "".join(
        f"options.AddConfigEntry({json.dumps(key)}, {json.dumps(value)});\n" for key, value in file.session.items()
    )
    opened = (
        "#include <onnxruntime_cxx_api.h>\n\nOrt::Env env;\nOrt::SessionOptions options;\n"
        f"options.SetIntraOpNumThreads(1);\n{entries}"
        f"Ort::Session session(env, ORT_TSTR({json.dumps(file.file)}), options);\n"
        "auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);\n"
    )
    make = "Ort::Value::CreateTensor<float>(memory, "
    if layout == "step":
        return (
            f"{opened}std::array<float, {channels}> x;  // one sample, raw units\n"
            f"std::array<float, {state}> state{{}};\n"
            f"const int64_t of_x[] = {{1, {channels}}}, of_state[] = {{1, {state}}};\n"
            f"Ort::Value in[] = {{{make}x.data(), x.size(), of_x, 2),\n"
            f"                   {make}state.data(), state.size(), of_state, 2)}};\n"
            'const char *names[] = {"x", "state"}, *outputs[] = {"logits", "state_next"};\n'
            "auto out = session.Run(Ort::RunOptions{}, names, in, 2, outputs, 2);  // once a sample\n"
            "std::copy_n(out[1].GetTensorData<float>(), state.size(), state.begin());\n"
        )
    return (
        f"{opened}std::array<float, {steps} * {channels}> window;  // raw units, the channels of a step side by side\n"
        f"const int64_t shape[] = {{1, {steps}, {channels}}};\n"
        f"auto x = {make}window.data(), window.size(), shape, 3);\n"
        'const char *names[] = {"x"}, *outputs[] = {"logits"};\n'
        "auto out = session.Run(Ort::RunOptions{}, names, &x, 1, outputs, 1);\n"
        f"const float *logits = out[0].GetTensorData<float>();  // {classes}\n"
    )
