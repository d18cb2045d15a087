"""Where a file's slices stand in their series, and how many it holds, told without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from ct_xception.imaging.slices import Source, is_dicom, name_of, open_source


@dataclass(frozen=True)
class Place:
    """One file's place; what it does not say is None.

    `frames` is how many slices (DICOM frames, TIFF pages) it holds. `position` is the distance in mm of its plane from
    the patient coordinate system's origin along `normal`, the plane's unit normal (DICOM PS3.3 C.7.6.2.1.1): for an
    axial slice larger values lie nearer to the head. `number` is its InstanceNumber. `size` is (rows, columns), None
    where there is no image; `thickness` is in mm. `series` is its SeriesInstanceUID, to be compared and never shown.
    """

    frames: int = 1
    position: float | None = None
    normal: tuple[float, float, float] | None = None
    number: int | None = None
    size: tuple[int, int] | None = None
    thickness: float | None = None
    series: str | None = None


def read_place(source: Source, *, name: str | None = None) -> Place:
    """The place of a path, bytes or an open binary file. Raises SliceError.

    Of a DICOM file only the tags of position, orientation, size, thickness, number and series are read.
    """
    from ct_xception.imaging.pictures import read_picture_place

    label = name if name is not None else name_of(source)
    with open_source(source, label) as stream:
        if is_dicom(stream):
            from ct_xception.imaging.dicom import read_dicom_place

            return read_dicom_place(stream, label)
        return read_picture_place(stream, label)
