"""Rendered faces, smiling or not: a data set without files.

A face is a few dozen numbers (`FaceParameters`), drawn per image from its own stream,
and a picture of signed distances, painted back to front at twice the resolution and
averaged down. The same seed and index give the same pixels everywhere.

The label is exact: `smiling` is the sign of the mouth's curvature, and no face has a
curvature within `SMILE_MARGIN` of a straight mouth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Int64

from robustgen.data.dataset import Dataset
from robustgen.errors import RequestError, unknown_name
from robustgen.seeding import numpy_rng

POPULATION_SEED = 0
"""Seed of all faces; a split is a stream of its own."""

_STREAMS = {"val": "val", "test": "test 2"}
# The first stream of test faces was looked at while the population was designed.

SMILE_MARGIN = 0.05
"""Smallest magnitude of the curvature; 1 is the broadest smile or frown.

At 32 px the corners of the mouth then lie about a sixth of a pixel off a straight line.
Few mouths are as faint: the magnitude is `margin + (1 - margin) * u ** SMILE_POWER` for
a uniform u, so 8% of faces are below 0.28 and 1% below 0.12.
"""

SMILE_POWER = 0.55
"""Skews the magnitudes toward broad smiles and frowns; 1 would be uniform."""

ATTRIBUTES = ("smiling", "mouth_open", "long_hair", "light_hair", "raised_brows")
"""Exact binary labels of every face, in the order of `attributes`."""

HAIR_COLORS = ("black", "brown", "light brown", "blond", "red", "grey")
"""Classes of the label `hair`."""

LABELS = (*ATTRIBUTES, "hair")
"""What a face may be labeled by."""

DEFAULT_LABEL = "smiling"

_SKIN_DARK = np.array([0.36, 0.22, 0.15])
_SKIN_LIGHT = np.array([0.97, 0.80, 0.69])
_HAIR = np.array(
    [
        [0.07, 0.06, 0.07],  # black
        [0.26, 0.15, 0.09],  # brown
        [0.47, 0.30, 0.16],  # light brown
        [0.83, 0.67, 0.38],  # blond
        [0.60, 0.25, 0.10],  # red
        [0.68, 0.68, 0.70],  # grey
    ]
)
_LIGHT_HAIR_FROM = 3
_IRIS = np.array([[0.20, 0.12, 0.07], [0.24, 0.36, 0.55], [0.25, 0.40, 0.25]])

Number = np.ndarray | np.float32
Row = Float32[np.ndarray, " n"]
Colors = Float32[np.ndarray, "n 3"]


@dataclass(frozen=True)
class FaceParameters:
    """What N faces look like. Lengths are in half images, angles in radians.

    Args:
        curvature: Of the mouth: positive smiles; magnitude from `SMILE_MARGIN` to 1.
        mouth_open: Height of the opening; 0 where closed.
        mouth_width: Half width at rest; a smile widens it.
        lip: Thickness of the lips.
        long_hair: 1 where hair falls beside the face, else 0.
        hair_line: Height of the forehead.
        hair_kind: Index of the hair color.
        brow_raise: Upward shift of the brows; 0 where not raised.
        brow_tilt: Slope of the brows.
        eye_open: Half height of the eyes.
        eye_gap: Half distance of the eyes.
        iris_kind: Index of the eye color.
        gaze: Sideways shift of the pupils.
        face_width: Half width of the face.
        jaw: How much the face narrows toward the chin.
        nose: Length of the nose.
        roll: Rotation in the image plane.
        yaw: Sideways turn: shifts the features within the face.
        pitch: Nod: shifts the features up or down.
        scale: Size of the face in the crop.
        light_angle: Direction of the light.
        light: Strength of the light's gradient.
        exposure: Overall brightness.
        skin: Color, [N, 3].
        hair: Color, [N, 3].
        lips: Color, [N, 3].
        background: Color at the center, [N, 3].
        background_slope: Change of the background across the image, [N, 3].
    """

    curvature: Row
    mouth_open: Row
    mouth_width: Row
    lip: Row
    long_hair: Row
    hair_line: Row
    hair_kind: Row
    brow_raise: Row
    brow_tilt: Row
    eye_open: Row
    eye_gap: Row
    iris_kind: Row
    gaze: Row
    face_width: Row
    jaw: Row
    nose: Row
    roll: Row
    yaw: Row
    pitch: Row
    scale: Row
    light_angle: Row
    light: Row
    exposure: Row
    skin: Colors
    hair: Colors
    lips: Colors
    background: Colors
    background_slope: Colors

    @property
    def attributes(self) -> Int64[np.ndarray, "n a"]:
        """Exact labels, columns in the order of `ATTRIBUTES`."""
        columns = [
            self.curvature > 0,
            self.mouth_open > 0,
            self.long_hair > 0,
            self.hair_kind >= _LIGHT_HAIR_FROM,
            self.brow_raise > 0,
        ]
        return np.stack(columns, axis=1).astype(np.int64)

    def labels(self, attribute: str) -> Int64[np.ndarray, " n"]:
        """Exact classes by one of `LABELS`, in the order of `class_names`."""
        if attribute == "hair":
            return self.hair_kind.astype(np.int64)
        return self.attributes[:, ATTRIBUTES.index(attribute)]


def _draw_one(rng: np.random.Generator) -> dict[str, np.ndarray | float]:
    smiles = rng.random() < 0.5
    magnitude = SMILE_MARGIN + (1 - SMILE_MARGIN) * rng.random() ** SMILE_POWER
    kind = int(rng.integers(len(_HAIR)))
    tone = rng.random()
    skin = _SKIN_DARK + (_SKIN_LIGHT - _SKIN_DARK) * tone + rng.normal(0, 0.025, 3)
    redness = rng.uniform(0.25, 0.75)
    lips = skin * (1 - redness) + np.array([0.62, 0.16, 0.18]) * redness
    return {
        "curvature": magnitude if smiles else -magnitude,
        "mouth_open": rng.uniform(0.05, 0.15) if rng.random() < 0.4 else 0.0,
        "mouth_width": rng.uniform(0.27, 0.36),
        "lip": rng.uniform(0.045, 0.075),
        "long_hair": float(rng.random() < 0.5),
        "hair_line": rng.uniform(0.42, 0.66),
        "hair_kind": float(kind),
        "brow_raise": rng.uniform(0.07, 0.14) if rng.random() < 0.4 else 0.0,
        "brow_tilt": rng.uniform(-0.2, 0.2),
        "eye_open": rng.uniform(0.06, 0.11),
        "eye_gap": rng.uniform(0.28, 0.35),
        "iris_kind": float(rng.integers(len(_IRIS))),
        "gaze": rng.uniform(-0.04, 0.04),
        "face_width": rng.uniform(0.66, 0.80),
        "jaw": rng.uniform(0.10, 0.35),
        "nose": rng.uniform(0.22, 0.32),
        "roll": rng.normal(0, 0.06),
        "yaw": rng.uniform(-0.10, 0.10),
        "pitch": rng.uniform(-0.05, 0.05),
        "scale": rng.uniform(1.10, 1.24),
        "light_angle": rng.uniform(0, 2 * np.pi),
        "light": rng.uniform(0.0, 0.28),
        "exposure": rng.uniform(0.82, 1.08),
        "skin": np.clip(skin, 0.05, 1.0),
        "hair": np.clip(_HAIR[kind] + rng.normal(0, 0.03, 3), 0.02, 1.0),
        "lips": np.clip(lips, 0.02, 1.0),
        "background": rng.uniform(0.15, 0.85, 3),
        "background_slope": rng.normal(0, 0.08, 3),
    }


def draw_faces(seed: int, stream: str, indices: Sequence[int]) -> FaceParameters:
    """Parameters of the faces at `indices` of a stream.

    Args:
        seed: Seed of the whole population.
        stream: Name of the population's part, such as a split. Faces of two streams
            never share their randomness.
        indices: Which faces, at least one; each is drawn from its own generator.
    """
    draws = [_draw_one(numpy_rng(seed, "faces", stream, int(i))) for i in indices]
    columns = {
        field.name: np.array([d[field.name] for d in draws], np.float32)
        for field in fields(FaceParameters)
    }
    return FaceParameters(**columns)


def render_faces(
    faces: FaceParameters, resolution: int = 32
) -> Float32[np.ndarray, "n 3 r r"]:
    """Pictures of faces in [0, 1].

    Args:
        faces: N faces.
        resolution: Side in pixels. Painted at twice this and averaged, edges are
            smooth over one painted pixel.
    """
    count = len(faces.curvature)
    parts = [
        _render(faces, slice(start, start + 64), resolution)
        for start in range(0, count, 64)
    ]
    return np.concatenate(parts)


def _render(faces: FaceParameters, rows: slice, resolution: int) -> np.ndarray:
    f = FaceParameters(**{k: v[rows] for k, v in vars(faces).items()})
    side = 2 * resolution
    axis = ((np.arange(side, dtype=np.float32) + 0.5) / side) * 2 - 1
    pixel = np.float32(2 / side)
    x0, y0 = axis[None, None, :], axis[None, :, None]

    def col(values: np.ndarray) -> np.ndarray:
        return values[:, None, None]

    def cover(distance: np.ndarray) -> np.ndarray:
        # Share of a pixel inside a shape whose signed distance is given.
        return np.clip(0.5 - distance / pixel, 0, 1)

    def ellipse(x: np.ndarray, y: np.ndarray, rx: Number, ry: Number) -> np.ndarray:
        # First-order distance: (|p| - 1) scaled by the smaller radius.
        return (np.sqrt((x / rx) ** 2 + (y / ry) ** 2) - 1) * np.minimum(rx, ry)

    cos, sin = col(np.cos(f.roll) / f.scale), col(np.sin(f.roll) / f.scale)
    x, y = cos * x0 + sin * y0, cos * y0 - sin * x0 + np.float32(0.06)
    # Features move with yaw and pitch; the outline of the head stays.
    u = x - col(f.yaw)
    v = y - col(f.pitch)
    side_light = np.cos(f.light_angle), np.sin(f.light_angle)
    light = col(f.exposure) * (
        1 + col(f.light) * (col(side_light[0]) * x0 + col(side_light[1]) * y0)
    )

    canvas = np.empty((len(f.curvature), 3, side, side), np.float32)
    canvas[:] = (
        f.background[:, :, None, None]
        + f.background_slope[:, :, None, None] * (x0 + y0)[:, None]
    )

    def paint(alpha: np.ndarray, color: np.ndarray, lit: np.ndarray | float) -> None:
        # `color` is [n, 3] or [3]; `lit` scales it per pixel.
        rgb = np.broadcast_to(color, (len(canvas), 3))
        for c in range(3):
            layer = rgb[:, c, None, None] * lit
            canvas[:, c] += alpha * (layer - canvas[:, c])

    # Hair behind the face: a cap, and two falls where it is long.
    cap = cover(ellipse(x, y + 0.28, col(f.face_width) + 0.14, np.float32(0.86)))
    fall = cover(np.abs(np.abs(x) - col(f.face_width) - 0.03) - 0.13)
    fall = fall * cover(-(y + 0.3)) * col(f.long_hair)
    strands = 1 + 0.08 * np.sin(18 * x + 3 * y)
    paint(np.maximum(cap, fall), f.hair, light * strands)

    # The face: an ellipse that narrows toward the chin, darker at its rim.
    narrow = 1 - col(f.jaw) * np.clip(y - 0.1, 0, 1)
    outline = ellipse(x / narrow, y - 0.03, col(f.face_width), np.float32(0.93))
    face = cover(outline)
    rim = 1 - 0.35 * np.clip(outline + 0.25, 0, 0.25) / 0.25
    paint(face, f.skin, light * rim)

    # Cheeks lift and crease with the smile, as they do in people.
    smile = col(np.clip(f.curvature, 0, 1))
    for sign in (-1, 1):
        cheek = ellipse(u - sign * 0.40, v - 0.24, np.float32(0.17), np.float32(0.13))
        glow = np.clip(0.5 - cheek / 0.25, 0, 1) * face
        paint(0.30 * smile * glow, f.skin * [1.1, 0.85, 0.8], light * 1.06)

    # Fringe over the forehead.
    fringe = cover(v + col(f.hair_line) + 0.08 * np.cos(4 * x + 2 * col(f.yaw)))
    paint(
        fringe * cover(ellipse(x, y + 0.2, col(f.face_width) + 0.1, np.float32(0.9))),
        f.hair,
        light * strands,
    )

    shade = f.skin * [0.62, 0.55, 0.52]
    eye_v = v + 0.17
    squint = 1 - 0.2 * smile
    for sign in (-1, 1):
        ex = u - sign * col(f.eye_gap)
        white = ellipse(ex, eye_v, np.float32(0.155), col(f.eye_open) * squint)
        paint(cover(white - 0.025), shade, light)
        paint(cover(white), np.array([0.94, 0.94, 0.93]), light)
        gaze_x = ex - col(f.gaze)
        inside = cover(white)
        iris = cover(np.hypot(gaze_x, eye_v) - 0.075)
        paint(inside * iris, _IRIS[f.iris_kind.astype(int)], light)
        pupil = cover(np.hypot(gaze_x, eye_v) - 0.035)
        paint(inside * pupil, np.array([0.03, 0.03, 0.03]), 1.0)
        brow_line = (
            v + 0.34 + col(f.brow_raise) - sign * ex * col(f.brow_tilt) + 1.2 * ex**2
        )
        brow = np.maximum(np.abs(brow_line) - 0.032, np.abs(ex) - 0.19)
        paint(cover(brow), f.hair * 0.55, light)

    # The nose: a shadow on the side away from the light, and two nostrils.
    away = -np.sign(col(side_light[0]) + 1e-6)
    bridge = np.maximum(
        np.abs(u - away * 0.05) - 0.025, np.abs(v - 0.02) - col(f.nose) / 2
    )
    paint(0.45 * cover(bridge), shade, light)
    for sign in (-1, 1):
        nostril = np.hypot(u - sign * 0.065, v - 0.02 - col(f.nose) / 2 - 0.02) - 0.038
        paint(0.8 * cover(nostril), shade * 0.7, light)

    # The mouth: a parabola whose corners rise with the curvature. Lips around it, and
    # where it is open a dark gap with teeth.
    half = col(f.mouth_width) * (1 + 0.22 * smile)
    reach = u / half
    bend = 0.17 * col(f.curvature)
    line = (v - 0.50) + bend * (reach**2 - 0.45)
    taper = np.sqrt(np.clip(1 - reach**2, 0, 1))
    ends = np.abs(u) - half
    gap = col(f.mouth_open) * taper / 2
    lips = np.maximum(np.abs(line) - gap - col(f.lip) * (0.45 + 0.55 * taper), ends)
    paint(cover(lips), f.lips, light)
    hole = np.maximum(np.abs(line) - gap, ends)
    opened = cover(hole) * (col(f.mouth_open) > 0)
    paint(opened, np.array([0.16, 0.05, 0.06]), light)
    teeth = np.maximum(hole, line + 0.2 * gap)
    paint(cover(teeth) * (col(f.mouth_open) > 0), np.array([0.93, 0.92, 0.88]), light)
    crease = np.maximum(np.abs(line) - 0.018, np.abs(u) - half - 0.03)
    paint(cover(crease) * (col(f.mouth_open) == 0), f.lips * 0.45, light)

    n = len(canvas)
    small = canvas.reshape(n, 3, resolution, 2, resolution, 2).mean(axis=(3, 5))
    return np.clip(small, 0, 1)


def load_faces(val: int = 0, test: int = 0, attribute: str = DEFAULT_LABEL) -> Dataset:
    """Rendered faces of 32 px, labeled smiling or not, or by another attribute.

    The streams `train` (which only training draws from), `val` and `test` share no
    randomness. Image `i` of a split is always the same face.

    Args:
        val: Images of the validation split.
        test: Images of the test split.
        attribute: The label, one of `LABELS`.

    Raises:
        RequestError: no image was asked for, or the attribute is unknown.
    """
    if attribute not in LABELS:
        raise unknown_name("attribute of data set 'faces'", attribute, LABELS)
    sizes = [("val", val, 1_000_000), ("test", test, 2_000_000)]
    parts = [size for size in sizes if size[1]]
    if not parts:
        raise RequestError("data set 'faces': no images were asked for.")
    faces = [
        draw_faces(POPULATION_SEED, _STREAMS[name], range(count))
        for name, count, _ in parts
    ]
    return Dataset(
        name="faces",
        images=np.concatenate([render_faces(f) for f in faces]),
        labels=np.concatenate([f.labels(attribute) for f in faces]),
        split=np.repeat([name for name, _, _ in parts], [n for _, n, _ in parts]),
        index=np.concatenate(
            [np.arange(count, dtype=np.int64) + first for _, count, first in parts]
        ),
        class_names=class_names(attribute),
        flip=True,
    )


def class_names(attribute: str) -> tuple[str, ...]:
    """Names of the classes of one of `LABELS`."""
    if attribute == "hair":
        return HAIR_COLORS
    words = attribute.replace("_", " ")
    return f"not {words}", words
