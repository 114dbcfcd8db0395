"""The faces of the library: one small class for each way to call it, so that a test body runs on them all.

A face takes and returns NumPy arrays. It turns every array among the arguments into its own kind, calls the
function of that name, and turns the results back. `RANKLOSS_TEST_BACKENDS=numpy,torch` picks the backends
whose faces are tested.
"""

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

import rankloss

BACKENDS = ("numpy", "array_api_strict", "torch", "jax", "tensorflow", "keras")


class Face(Protocol):
    """What a test body may ask of a way to call the library.

    Attributes:
        name: in the names of tests.
        backend: by which `RANKLOSS_TEST_BACKENDS` selects it.
        framework: what computes; for Keras what it runs on.
        traced: whether programs are made before values are known, so that these can neither be checked nor
            warned of.
    """

    name: str
    backend: str
    framework: str
    traced: bool

    def array(self, values: Any) -> Any:
        """The face's own array of these NumPy values, of the same dtype."""

    def numpy(self, array: Any) -> Any:
        """The NumPy array of a face's array, of the same dtype."""

    def value(self, function: str, objective: Any, *arguments: Any, **options: Any) -> Any:
        """What the library's function of that name returns."""

    def value_and_gradient(
        self, function: str, objective: Any, *arguments: Any, **options: Any
    ) -> tuple[Any, Any]:
        """The loss and its gradient for the first argument, or the gradients for it and for the gallery."""


def converted(convert: Callable[[Any], Any], argument: Any) -> Any:
    """`argument` with its NumPy arrays converted; anything else stays, so that bad input arrives as it is."""
    if isinstance(argument, np.ndarray):
        return convert(argument)
    if isinstance(argument, tuple | list):
        return type(argument)(converted(convert, part) for part in argument)
    return argument


def divided(convert: Callable[[Any], Any], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are arrays, converted, and those that are not."""
    arrays = {name: convert(value) for name, value in options.items() if isinstance(value, np.ndarray)}
    return arrays, {name: value for name, value in options.items() if name not in arrays}


class CoreFace:
    """`import rankloss` on the arrays of one array-API namespace; the gradient is the closed form."""

    traced = False

    def __init__(
        self, name: str, backend: str, array: Callable[[Any], Any], numpy: Callable[[Any], Any]
    ) -> None:
        self.name, self.backend, self.array, self.numpy = name, backend, array, numpy
        self.framework = backend

    def value(self, function: str, objective: Any, *arguments: Any, **options: Any) -> Any:
        result = self.call(function, objective, arguments, options)
        return self.numpy(result)

    def value_and_gradient(
        self, function: str, objective: Any, *arguments: Any, **options: Any
    ) -> tuple[Any, Any]:
        loss, gradient = self.call(f"{function}_and_gradient", objective, arguments, options)
        if isinstance(gradient, tuple | list):
            return self.numpy(loss), tuple(self.numpy(part) for part in gradient)
        return self.numpy(loss), self.numpy(gradient)

    def call(self, function: str, objective: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        keywords = {name: converted(self.array, option) for name, option in options.items()}
        return getattr(rankloss, function)(objective, *converted(self.array, arguments), **keywords)


class TorchFace:
    """`import rankloss.torch`; the gradient comes from `backward`."""

    name = "rankloss.torch"
    backend = framework = "torch"
    traced = False

    def __init__(self) -> None:
        self.torch = importlib.import_module("torch")
        self.library = importlib.import_module("rankloss.torch")

    def array(self, values: Any) -> Any:
        return self.torch.tensor(values)

    def numpy(self, array: Any) -> Any:
        return array.detach().numpy()

    def value(self, function: str, objective: Any, *arguments: Any, **options: Any) -> Any:
        keywords = {name: converted(self.array, option) for name, option in options.items()}
        result = getattr(self.library, function)(objective, *converted(self.array, arguments), **keywords)
        return self.numpy(result)

    def value_and_gradient(
        self, function: str, objective: Any, *arguments: Any, **options: Any
    ) -> tuple[Any, Any]:
        first, *others = converted(self.array, arguments)
        keywords = {name: converted(self.array, option) for name, option in options.items()}
        leaves = [*first] if isinstance(first, tuple) else [first]
        with_gallery = keywords.get("gallery") is not None
        if with_gallery:
            leaves.append(keywords["gallery"])
        for leaf in leaves:
            leaf.requires_grad_()
        loss = getattr(self.library, function)(objective, first, *others, **keywords)
        loss.backward()
        gradients = tuple(self.numpy(leaf.grad) for leaf in leaves)
        if with_gallery or isinstance(first, tuple):
            return self.numpy(loss), gradients
        return self.numpy(loss), gradients[0]


class JaxFace:
    """`import rankloss.jax`, with 64-bit types; `compiled` is what is done with a function before it is called."""

    backend = framework = "jax"

    def __init__(self, name: str = "rankloss.jax", compiled: Callable[[Any], Any] | None = None) -> None:
        self.name, self.compiled, self.traced = name, compiled or _as_it_is, compiled is not None
        self.jax = importlib.import_module("jax")
        self.library = importlib.import_module("rankloss.jax")

    def array(self, values: Any) -> Any:
        with self.jax.enable_x64(True):
            return self.jax.numpy.asarray(values)

    def numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def value(self, function: str, objective: Any, *arguments: Any, **options: Any) -> Any:
        def call(arguments: Any, arrays: Any) -> Any:
            return getattr(self.library, function)(objective, *arguments, **settings, **arrays)

        arrays, settings = divided(self.array, options)
        with self.jax.enable_x64(True):
            return self.numpy(self.compiled(call)(converted(self.array, arguments), arrays))

    def value_and_gradient(
        self, function: str, objective: Any, *arguments: Any, **options: Any
    ) -> tuple[Any, Any]:
        def call(leaves: Any, arguments: Any, arrays: Any) -> Any:
            return getattr(self.library, function)(
                objective, leaves[0], *arguments, **settings, **arrays, **leaves[1]
            )

        arrays, settings = divided(self.array, options)
        first, *others = converted(self.array, arguments)
        leaves = (first, {"gallery": arrays.pop("gallery")} if "gallery" in arrays else {})
        with self.jax.enable_x64(True):
            loss, found = self.compiled(self.jax.value_and_grad(call))(leaves, others, arrays)
        gradients = [self.numpy(gradient) for gradient in self.jax.tree.leaves(found)]
        return self.numpy(loss), gradients[0] if len(gradients) == 1 and not isinstance(
            arguments[0], tuple
        ) else tuple(gradients)


class TensorFlowFace:
    """`import rankloss.tensorflow`; the gradient comes from a tape. `compiled` makes a function of each call."""

    backend = framework = "tensorflow"

    def __init__(
        self, name: str = "rankloss.tensorflow", compiled: Callable[[Any], Any] | None = None
    ) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it greets on standard error
        self.name, self.compiled, self.traced = name, compiled or _as_it_is, compiled is not None
        self.tf = importlib.import_module("tensorflow")
        self.library = importlib.import_module("rankloss.tensorflow")

    def array(self, values: Any) -> Any:
        return self.tf.constant(values)

    def numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def value(self, function: str, objective: Any, *arguments: Any, **options: Any) -> Any:
        def call(arguments: Any, arrays: Any) -> Any:
            return getattr(self.library, function)(objective, *arguments, **settings, **arrays)

        arrays, settings = divided(self.array, options)
        return self.numpy(self.compiled(call)(converted(self.array, arguments), arrays))

    def value_and_gradient(
        self, function: str, objective: Any, *arguments: Any, **options: Any
    ) -> tuple[Any, Any]:
        def call(arguments: Any, arrays: Any) -> Any:
            leaves = [*arguments[0]] if isinstance(arguments[0], tuple) else [arguments[0]]
            leaves += [arrays["gallery"]] if "gallery" in arrays else []
            with self.tf.GradientTape() as tape:
                tape.watch(leaves)
                loss = getattr(self.library, function)(objective, *arguments, **settings, **arrays)
            return loss, tape.gradient(loss, leaves)

        arrays, settings = divided(self.array, options)
        loss, gradients = self.compiled(call)(converted(self.array, arguments), arrays)
        found = tuple(self.numpy(gradient) for gradient in gradients)
        return self.numpy(loss), found[0] if len(found) == 1 and not isinstance(
            arguments[0], tuple
        ) else found


class KerasLibrary:
    """The functions of `import rankloss.keras`; where a `RankingLoss` can do what is asked for, it does."""

    def __init__(self) -> None:
        self.library = importlib.import_module("rankloss.keras")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    def embedding_loss(self, objective: Any, embeddings: Any, labels: Any = None, **options: Any) -> Any:
        settings = {name: option for name, option in options.items() if name != "weights"}
        weights, shape = options.get("weights"), getattr(embeddings, "shape", ())
        if (
            settings.keys() <= {"normalize", "include_query", "reduction", "block_size"}
            and len(shape) == (3 if labels is None else 2)
            and (labels is None or len(getattr(labels, "shape", ())) == 1)
            and (weights is None or getattr(weights, "shape", None) == shape[:-1])
        ):
            return self.library.RankingLoss(objective, **settings)(labels, embeddings, weights)
        return self.library.embedding_loss(objective, embeddings, labels, **options)


def keras_face() -> Face:
    """`import rankloss.keras`, on what Keras runs on in this process; gradients as that framework takes them."""
    running = importlib.import_module("keras").backend.backend()
    face: Any = {"torch": TorchFace, "jax": JaxFace, "tensorflow": TensorFlowFace}[running]()
    face.name, face.backend, face.library = f"rankloss.keras[{running}]", "keras", KerasLibrary()
    return face


def _as_it_is(call: Any) -> Any:
    return call


def selected_backends() -> list[str]:
    """The backends to test: all, or those that the environment variable names."""
    names = os.environ.get("RANKLOSS_TEST_BACKENDS", ",".join(BACKENDS)).replace(" ", "").split(",")
    unknown = sorted(set(names) - set(BACKENDS))
    if unknown:
        raise ValueError(f"RANKLOSS_TEST_BACKENDS names {unknown}; known are {', '.join(BACKENDS)}")
    return names


def selected_faces() -> list[Face]:
    """Every face of the selected backends."""
    names, faces = selected_backends(), list[Face]()
    if "numpy" in names:
        faces.append(CoreFace("rankloss[numpy]", "numpy", np.asarray, np.asarray))
    if "array_api_strict" in names:
        strict = importlib.import_module("array_api_strict")
        faces.append(CoreFace("rankloss[strict]", "array_api_strict", strict.asarray, np.asarray))
    if "torch" in names:
        torch = importlib.import_module("torch")
        faces.append(CoreFace("rankloss[torch]", "torch", torch.tensor, lambda tensor: tensor.numpy()))
        faces.append(TorchFace())
    if "jax" in names:
        jax = importlib.import_module("jax")
        faces += [JaxFace(), JaxFace("jax.jit", jax.jit)]
    if "tensorflow" in names:
        tf = importlib.import_module("tensorflow")
        faces += [
            TensorFlowFace(),
            TensorFlowFace("tf.function", tf.function),
            TensorFlowFace("XLA", partial(tf.function, jit_compile=True)),
        ]
    if "keras" in names:
        faces.append(keras_face())
    return faces
