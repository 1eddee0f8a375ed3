from typing import Any

class XMLSyntaxError(SyntaxError): ...

class XMLParser:
    error_log: Any
    def __init__(
        self,
        *,
        resolve_entities: bool = ...,
        no_network: bool = ...,
        collect_ids: bool = ...,
        recover: bool = ...,
    ) -> None: ...

def fromstring(text: str | bytes, parser: XMLParser | None = ...) -> Any: ...
