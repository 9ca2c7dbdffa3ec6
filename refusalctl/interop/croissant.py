"""Croissant 1.1 metadata of a data set, with the terms of its responsible-AI vocabulary (RAI 1.0).

Written by hand after the specification; `benchmarks/round_trips.py` has mlcroissant read it, and the rows through it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from refusalctl.interop.rows import RowTable, Told, Type
from refusalctl.json_types import JsonObject

CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_TYPES: dict[Type, str] = {"text": "sc:Text", "integer": "sc:Integer", "number": "sc:Float", "boolean": "sc:Boolean"}
_CONTEXT: JsonObject = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


class FileFacts(NamedTuple):
    """A file of the data set: its table, its path inside the folder, its bytes."""

    table: RowTable
    path: str
    content: bytes


def croissant(files: Sequence[FileFacts], told: Told) -> JsonObject:
    """The JSON-LD document. What is not known (a licence) is left out rather than made up."""
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": told.name,
        "description": _description(told),
        **({"license": told.licence} if told.licence else {}),
        "datePublished": told.written,
        "version": "1.0.0",
        "creator": {"@type": "sc:Organization", "name": told.made_by},
        "inLanguage": list(told.langs),
        "distribution": [_file(each) for each in files],
        "recordSet": [_record_set(each) for each in files],
        **_responsible(told),
    }


def _description(told: Told) -> str:
    texts = "Prompts and answers are included" if told.texts else "Texts are replaced by their SHA-256"
    return (
        f"Answers of {', '.join(told.models)} in {', '.join(told.langs)}, without and under interventions on the "
        f"residual stream, with judges' labels. {texts}."
    )


def _file(each: FileFacts) -> JsonObject:
    kind = "application/x-parquet" if each.path.endswith(".parquet") else "application/jsonlines"
    return {
        "@type": "cr:FileObject",
        "@id": each.path,
        "name": each.path.rpartition("/")[2],
        "contentUrl": each.path,
        "contentSize": f"{len(each.content)} B",
        "encodingFormat": kind,
        "sha256": hashlib.sha256(each.content).hexdigest(),
    }


def _record_set(each: FileFacts) -> JsonObject:
    name = each.table.name
    fields: list[JsonObject] = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": each.table.meanings[column],
            "dataType": _TYPES[kind],
            "source": {"fileObject": {"@id": each.path}, "extract": {"column": column}},
        }
        for column, kind in each.table.columns.items()
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": list(fields)}


def _responsible(told: Told) -> JsonObject:
    judged = ", ".join(told.judges)
    annotated: JsonObject = {
        "rai:dataAnnotationProtocol": "Some labels were imported: they are what the files of their authors say, as "
        "refusal, compliance, degenerate or unparsed."
        if told.imported
        else "Each judge reads each answer once and gives one outcome: refusal, compliance, "
        "degenerate or unparsed. Degenerate text is found by one rule before any judge sees it.",
        "rai:machineAnnotationTools": list(told.judges),
    }
    return {
        "rai:dataCollection": "Prompts of "
        + (", ".join(told.prompt_sets) or "an untold set")
        + f", answered{'' if told.imported else ' greedily'} by {', '.join(told.models)} under: "
        + f"{', '.join(told.interventions) or 'nothing'}."
        + (" Some answers were imported; how they were decoded is not known." if told.imported else ""),
        "rai:dataCollectionType": ["Software Collection"],
        **(annotated if judged else {}),
        "rai:dataUseCases": ["Measuring whether a refusal direction carries over between languages. Not for training."],
        "rai:dataLimitations": [
            "Labels are judges' opinions with errors that differ by language"
            + ("." if told.imported else "; greedy answers of one model revision.")
        ],
        "rai:dataBiases": ["Translated prompts may be unidiomatic; judges are weaker outside English."],
        "rai:dataSocialImpact": "Harmful prompts and answers under ablation may be misused where texts are included."
        if told.texts
        else "Holds no text of a prompt or an answer.",
        "rai:personalSensitiveInformation": ["None was collected; texts by models may name public persons."]
        if told.texts
        else ["None: no texts are included."],
        "rai:dataReleaseMaintenancePlan": "Made from artifacts whose ids are SHA-256 digests; a change is another set.",
    }
