"""Des documents bizarres, faits ici : les bons, avec leurs mots ; les mauvais, avec ce que leur phrase doit dire."""

import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
ODF = "urn:oasis:names:tc:opendocument:xmlns"
EVIL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
SAID = "Il était une fois un chat qui dormait."
MEGABYTE = 1 << 20


def zipped(members: Mapping[str, str | bytes] | Iterable[tuple[str | zipfile.ZipInfo, str | bytes]]) -> bytes:
    buffer = io.BytesIO()
    pairs = members.items() if isinstance(members, Mapping) else members
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in pairs:
            archive.writestr(name, content)
    return buffer.getvalue()


def zst(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def docx(
    body: str, *, head: str = "", space: str = W, main: str = "word/document.xml", **others: str
) -> bytes:
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    links = f'<Relationships><Relationship Id="r" Type="{kind}" Target="/{main}"/></Relationships>'
    text = f'{head}<w:document xmlns:w="{space}" xmlns:mc="{MC}"><w:body>{body}</w:body></w:document>'
    parts = {
        f"word/{name}.xml": f'<w:x xmlns:w="{space}">{content}</w:x>' for name, content in others.items()
    }
    return zipped({"[Content_Types].xml": "<Types/>", "_rels/.rels": links, main: text, **parts})


def paragraph(text: str, marks: str = "") -> str:
    return f"<w:p><w:r><w:rPr>{marks}</w:rPr><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


def odt(body: str, *, head: str = "", manifest: str = "<m/>") -> bytes:
    spaces = " ".join(f'xmlns:{name}="{ODF}:{name}:1.0"' for name in ("office", "text", "table"))
    content = f"{head}<office:document-content {spaces}><office:body><office:text>{body}</office:text></office:body>"
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "META-INF/manifest.xml": manifest,
            "content.xml": f"{content}</office:document-content>",
        }
    )


def epub(
    chapters: Mapping[str, str | bytes], *, head: str = "", spine: str | None = None, **others: str
) -> bytes:
    container = '<container><rootfiles><rootfile full-path="OEBPS/livre.opf"/></rootfiles></container>'
    items = "".join(
        f'<item id="{name}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"'
        f' properties="{"nav" * (name == "nav.xhtml")}"/>'
        for name in chapters
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in chapters) if spine is None else spine
    package = f"{head}<package><manifest>{items}</manifest><spine>{order}</spine></package>"
    members = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OEBPS/livre.opf": package,
    }
    locks = {f"META-INF/{name}.xml": content for name, content in others.items()}
    return zipped({**members, **locks, **{f"OEBPS/{name}": text for name, text in chapters.items()}})


def chapter(text: str, head: str = "<title/>") -> str:
    return f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head>{head}</head><body>{text}</body></html>'


def objects_to_pdf(objects: list[bytes], trailer: bytes = b"/Root 1 0 R") -> bytes:
    """Un .pdf de ces objets, numérotés à partir de 1."""
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return bytes(
        out + b"trailer\n<</Size %d %s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    )


def flow(content: bytes, entries: bytes = b"") -> bytes:
    return b"<</Length %d %s>>stream\n%s\nendstream" % (len(content), entries, content)


def lines(*texts: str, left: int = 72, top: int = 720) -> bytes:
    """De quoi écrire ces lignes l'une sous l'autre."""
    shown = [
        b"(%s) Tj 0 -14 Td" % text.encode("cp1252").replace(b"(", rb"\(").replace(b")", rb"\)")
        for text in texts
    ]
    return b"BT /F1 11 Tf %d %d Td\n%s\nET\n" % (left, top, b"\n".join(shown))


FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
IMAGE = flow(
    b"\x00" * 12, b"/Type/XObject/Subtype/Image/Width 2/Height 2/ColorSpace/DeviceRGB/BitsPerComponent 8"
)


def pdf(*pages: bytes, resources: bytes = b"", extra: Iterable[bytes] = (), entries: bytes = b"") -> bytes:
    """Un .pdf de ces pages ; les objets de `extra` commencent à 4."""
    extra = list(extra)
    first = 4 + len(extra)
    kids = b" ".join(b"%d 0 R" % (first + 2 * rank) for rank in range(len(pages)))
    tree = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(pages), kids)
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", tree, FONT, *extra]
    for rank, page in enumerate(pages):
        around = b"/Resources<</Font<</F1 3 0 R>>%s>>/Contents %d 0 R" % (resources, first + 2 * rank + 1)
        objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]%s>>" % around)
        objects.append(flow(page, entries))
    return objects_to_pdf(objects)


def encrypted_pdf(password: str) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(lines(SAID)))))
    writer.encrypt(password, "du propriétaire", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def lock_zip(content: bytes) -> bytes:
    """Le même .zip, dont chaque membre dit qu'il est chiffré."""
    changed = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(mark, at + 4)
    return bytes(changed)


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def nested_forms(depth: int) -> bytes:
    """Une page qui montre deux fois un morceau, qui en montre deux fois un autre, et ainsi de suite."""
    forms = []
    for rank in range(depth):
        deeper = b"/XObject<</X %d 0 R>>" % (5 + rank) if rank < depth - 1 else b""
        content = b"/X Do /X Do" if deeper else lines(SAID)
        entries = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</Font<</F1 3 0 R>>%s>>" % deeper
        forms.append(flow(content, entries))
    return pdf(b"/X Do /X Do", resources=b"/XObject<</X 4 0 R>>", extra=forms)


FALLBACK = (
    "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>"
    + paragraph("Encadré.")
    + "</w:txbxContent></mc:Choice><mc:Fallback>"
    + paragraph("Encadré.")
    + "</mc:Fallback></mc:AlternateContent></w:r></w:p>"
)
RICH_DOCX = docx(
    "<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val='Table of Contents'/></w:docPartObj></w:sdtPr>"
    f"<w:sdtContent>{paragraph('Sommaire 3')}</w:sdtContent></w:sdt>"
    + paragraph("Un titre")
    + "<w:p><w:r><w:t>Une</w:t><w:tab/><w:t>ta</w:t></w:r><w:r><w:t>bulation.</w:t></w:r></w:p>"
    + paragraph("caché", "<w:vanish/>")
    + "<w:p><w:del><w:r><w:delText>effacé</w:delText></w:r></w:del><w:ins><w:r><w:t>Ajouté.</w:t></w:r></w:ins></w:p>"
    + "<w:p><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    + f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr>"
    + f"<w:tr><w:tc>{paragraph('c')}</w:tc><w:tc>{paragraph('d')}</w:tc></w:tr></w:tbl>"
    + FALLBACK,
    footnotes=f"<w:footnote w:type='separator'>{paragraph('---')}</w:footnote>"
    f"<w:footnote>{paragraph('La note.')}</w:footnote>",
    comments=paragraph("un commentaire"),
    header1=paragraph("un en-tête"),
)
RICH_ODT = odt(
    "<text:tracked-changes><text:p>effacé</text:p></text:tracked-changes>"
    "<text:table-of-content><text:p>Sommaire</text:p></text:table-of-content>"
    "<text:h>Un titre</text:h><text:p>Un  mot<text:note><text:note-citation>1</text:note-citation><text:note-body>"
    "<text:p>La note.</text:p></text:note-body></text:note> puis<text:s text:c='2'/>un<text:tab/>autre"
    "<office:annotation><text:p>un commentaire</text:p></office:annotation>.</text:p>"
    "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell>"
    "<text:p>b</text:p></table:table-cell></table:table-row></table:table>"
)
PAGE_OF_HTML = """<!DOCTYPE html><html><head><title>Un site</title><style>p { color: red }</style>
<script>var menu = "<p>non</p>";</script></head><body><header><a href=/>Accueil</a> <a href=/b>Blog</a></header>
<nav><ul><li>Menu</ul></nav><ul class="menu"><li><a>Un</a><li><a>Deux</a></ul>
<main><h1>Le   chat</h1><p>Il dort&nbsp;: <b>chut</b>&#33;<br>Oui.<p hidden>caché<p style="display: none">invisible
<ul><li>un<li>deux</ul><pre>a  b
 c</pre><table><tr><td>1<td>2</table><noscript>Activez JavaScript</noscript><button>Envoyer</button></main>
<div class="menu"><p>Soupe de poireaux, puis tarte aux pommes. <a href=/carte>La carte</a></div>
<script>console.log("non")</script></body></html>"""
TALES = "Le chat dort.", "Le chien veille, et la nuit passe.", "1984"
SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Bonjour.</i>\r\n\r\n"
    "2\r\n0:0:3,0 --> 0:0:4,0 X1:1\r\n{\\an8}1984\r\n- Oui.\r\n"
)
JSONL = b'{"text": "un"}\n{"text": "deux"}\n'

# nom -> (octets, le texte lu)
GOOD: dict[str, tuple[bytes, str]] = {
    "simple.txt": (SAID.encode(), SAID),
    "simple.md": (f"# Titre\n\n{SAID}".encode(), f"# Titre\n\n{SAID}"),
    "simple.tex": (b"\\section{Un} $x^2$ % note", "\\section{Un} $x^2$ % note"),
    "simple.rst": (b"Titre\n=====\n\n.. note:: Un", "Titre\n=====\n\n.. note:: Un"),
    "simple.jsonl": (JSONL, "undeux"),
    "simple.docx": (docx(paragraph(SAID) + paragraph("Fin.")), f"{SAID}\n\nFin."),
    "riche.docx": (
        RICH_DOCX,
        "Un titre\n\nUne\ttabulation.\n\nAjouté.\n\na\tb\nc\td\n\nEncadré.\n\nLa note.",
    ),
    "strict.docx": (docx(paragraph(SAID), space=STRICT, main="word/document2.xml"), SAID),
    "imbriqué.docx": (docx("<w:x>" * 20_000 + paragraph(SAID) + "</w:x>" * 20_000), SAID),
    "simple.odt": (odt(f"<text:p>{SAID}</text:p><text:p>Fin.</text:p>"), f"{SAID}\n\nFin."),
    "riche.odt": (RICH_ODT, "Un titre\n\nUn mot puis  un\tautre.\n\nLa note.\n\na\tb"),
    "espaces.odt": (odt("<text:p>a<text:s text:c='999999999999'/>b</text:p>"), f"a{' ' * 1000}b"),
    "simple.epub": (
        epub({"un.xhtml": chapter("<p>Un.</p>"), "deux.xhtml": chapter("<p>Deux.</p>")}),
        "Un.\n\nDeux.\n\n",
    ),
    "riche.epub": (
        epub(
            {
                "nav.xhtml": chapter("<p>Sommaire</p>"),
                "un é.xhtml": chapter(
                    "<h1>Un</h1><a id='p1'/><p>caf&eacute;<span/>s</p><script src='x'/><p>Oui.</p>"
                ),
                "deux.xhtml": '<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>été</p></body></html>'.encode(
                    "latin1"
                ),
            },
            encryption="<encryption><CipherReference URI='OEBPS/police.ttf'/></encryption>",
        ),
        "Un\n\ncafés\n\nOui.\n\nété\n\n",
    ),
    "page.html": (
        PAGE_OF_HTML.encode(),
        "Le chat\n\nIl dort\xa0: chut!\nOui.\n\nun\ndeux\n\na  b\n c\n\n1\t2\n\n"
        "Soupe de poireaux, puis tarte aux pommes. La carte",
    ),
    "nue.html": ("Un été,\nsans balise : 3 & 4.\n".encode(), "Un été, sans balise : 3 & 4."),
    "formulaire.htm": ('<form accept-charset="latin1"><p>été <!-- charset=latin1 -->'.encode(), "été"),
    "latin1.htm": ('<meta charset="latin1"><p>été “'.encode("cp1252"), "été “"),
    "utf16.html": ("<p>été".encode("utf-16"), "été"),
    "page.xhtml": (chapter("<p>Un.</p>", "<script src='x'/><title/>").encode(), "Un."),
    "profond.html": (b"<b>" * 50_000 + b"fond", "fond"),
    "vide.html": (b"<script>x</script>", ""),
    "simple.pdf": (pdf(lines(*TALES)), "\n".join(TALES)),
    "pages.pdf": (pdf(lines("Un."), b"", lines("Trois.")), "Un.\n\nTrois."),
    "compressé.pdf": (pdf(zlib.compress(lines(SAID)), entries=b"/Filter/FlateDecode"), SAID),
    "ouvert.pdf": (b"", SAID),  # chiffré sans mot de passe : fait à l'usage
    "simple.srt": (SRT.encode(), "Bonjour.\n1984\n- Oui.\n"),
    "simple.txt.gz": (gzip.compress(SAID.encode()), SAID),
    "formes.pdf": (nested_forms(2), "\n".join([SAID] * 4)),
    "deux.txt.gz": (gzip.compress(b"un ") + gzip.compress(b"deux"), "un deux"),
    "répété.txt.gz": (gzip.compress(b"a " * 400_000), "a " * 400_000),
    "simple.jsonl.gz": (gzip.compress(JSONL), "undeux"),
    "notes.gz": (gzip.compress(SAID.encode()), SAID),
    "simple.docx.gz": (gzip.compress(docx(paragraph(SAID))), SAID),
    "simple.pdf.zst": (b"", "\n".join(TALES)),
    "simple.txt.zst": (b"", SAID),
    "cadres.txt.zst": (b"", "un deux"),
    "tout.zip": (
        zipped(
            {
                "b/simple.docx": docx(paragraph("deux ")),
                "a.txt": "un ",
                "b/z.pdf": pdf(lines("trois")),
                "image.png": b"\0",
                "__MACOSX/a.txt": "non",
            }
        ),
        "un deux trois",
    ),
}


def good(name: str) -> bytes:
    """Les octets d'un bon document ; ce qui demande une bibliothèque est fait à l'usage."""
    made = {
        "ouvert.pdf": lambda: encrypted_pdf(""),
        "simple.pdf.zst": lambda: zst(pdf(lines(*TALES))),
        "simple.txt.zst": lambda: zst(SAID.encode()),
        "cadres.txt.zst": lambda: zst(b"un ") + b"\x5a\x2a\x4d\x18\x02\0\0\0ab" + zst(b"deux"),
    }
    return made[name]() if name in made else GOOD[name][0]


def cut(content: bytes, share: float = 0.6) -> bytes:
    return content[: int(len(content) * share)]


ZEROS = b"\0" * (20 * MEGABYTE)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + noise(500)
READABLE = r"ne se lit pas comme un"
LOOP = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count 1/Kids[2 0 R]>>"]

# nom -> (octets, ou de quoi les faire, ce que la phrase dit)
BAD = {
    "numérisé.pdf": (
        pdf(b"/I Do", b"/I Do", resources=b"/XObject<</I 4 0 R>>", extra=[IMAGE]),
        "numérisé ; un OCR",
    ),
    "chiffré.pdf": (lambda: encrypted_pdf("secret"), "est chiffré : retirez son mot de passe"),
    "sans_page.pdf": (pdf(), "n'a aucune page"),
    "blanc.pdf": (pdf(b"", b""), "n'a aucun texte sur 2 pages"),
    "rien.pdf": (b"", READABLE),
    "boucle.pdf": (objects_to_pdf(LOOP), "n'a aucun|" + READABLE),
    "bombe_de_formes.pdf": (nested_forms(30), "trop de calcul"),
    "bombe_de_gestes.pdf": (
        lambda: pdf(zlib.compress(b"1 " * 30_000 + b"BT (x) Tj ET"), entries=b"/Filter/FlateDecode"),
        "trop de calcul",
    ),
    "sans_racine.pdf": (objects_to_pdf([b"<<>>"]), READABLE),
    "bombe.pdf": (
        pdf(zlib.compress(b"BT /F1 9 Tf (" + b"a" * 8_000_000 + b") Tj ET"), entries=b"/Filter/FlateDecode"),
        "trop de calcul",
    ),
    "bombe_double.pdf": (
        pdf(zlib.compress(zlib.compress(ZEROS)), entries=b"/Filter[/FlateDecode/FlateDecode]"),
        "trop de calcul",
    ),
    **{
        f"hasard.{suffix}": (noise(3000), READABLE)
        for suffix in ("pdf", "docx", "odt", "epub", "zip", "txt.gz", "txt.zst")
    },
    **{f"hasard.{suffix}": (noise(3000), "n'est pas") for suffix in ("srt", "html", "txt", "jsonl")},
    "hasard_entête.pdf": (b"%PDF-1.7\n" + noise(3000), READABLE),
    "coupé.docx": (cut(docx(paragraph(SAID))), READABLE),
    "coupé.odt": (cut(odt(f"<text:p>{SAID}</text:p>")), READABLE),
    "coupé.epub": (cut(epub({"a.xhtml": chapter(SAID)})), READABLE),
    "coupé.pdf": (cut(pdf(lines(SAID)), 0.2), "n'a aucun|" + READABLE),
    "coupé.txt.gz": (cut(gzip.compress(noise(500).hex().encode())), READABLE),
    "coupé.txt.zst": (lambda: cut(zst(noise(300_000).hex().encode())), READABLE),
    "coupé_fin.txt.zst": (lambda: zst(SAID.encode())[:-1], READABLE),
    "coupé.zip": (cut(zipped({"a.txt": SAID})), READABLE),
    "xml_coupé.docx": (docx("<w:p>"), READABLE),
    "xml_coupé.odt": (odt("<text:p>"), READABLE),
    "abîmé.zip": (
        zipped({"a.txt": SAID * 9}).replace(struct.pack("<I", zlib.crc32((SAID * 9).encode())), b"abcd"),
        READABLE,
    ),
    "bombe.txt.gz": (gzip.compress(ZEROS.replace(b"\0", b"a")), "dépasse .* déplié"),
    "bombe.txt.zst": (lambda: zst(ZEROS.replace(b"\0", b"a")), "dépasse .* déplié"),
    "bombe.zip": (zipped({"a.txt": b"a" * len(ZEROS)}), "dépasse .* déplié"),
    "bombe_en_parts.zip": (zipped({f"{i}.txt": b"a" * 100_000 for i in range(60)}), "dépasse .* déplié"),
    "bombe.docx": (docx(paragraph("a" * len(ZEROS))), "dépasse .* déplié"),
    "bombe.odt": (odt(f"<text:p>{'a' * len(ZEROS)}</text:p>"), "dépasse .* déplié"),
    "bombe.epub": (
        epub({"a.xhtml": chapter("a" * 100_000)}, spine='<itemref idref="a.xhtml"/>' * 200),
        "dépasse .* déplié",
    ),
    "bombe.docx.gz": (gzip.compress(docx(paragraph("a" * len(ZEROS)))), "dépasse .* déplié"),
    **{
        f"grimpe_{rank}.zip": (zipped([("a.txt", "un"), (name, "deux")]), "un nom qui sort")
        for rank, name in enumerate(("../a.txt", "a/../../b.txt", "/etc/a.txt", "..\\a.txt", "C:/a.txt"))
    },
    "grimpe.docx": (zipped({"../x": "x", "word/document.xml": "x"}), "un nom qui sort"),
    "grimpe.epub": (epub({"../../../a.xhtml": chapter(SAID)}), "un nom qui sort"),
    "lien.zip": (zipped([("a.txt", "un"), (link("b.txt"), "/etc/passwd")]), "un lien"),
    "lien.odt": (zipped([(link("content.xml"), "/etc/passwd")]), "un lien"),
    "externe.docx": (docx(paragraph("&e;"), head=EVIL), "entités"),
    "externe.odt": (odt("<text:p>&e;</text:p>", head=EVIL), "entités"),
    "externe.epub": (epub({"a.xhtml": chapter(SAID)}, head=EVIL), "entités"),
    "externe_chapitre.epub": (epub({"a.xhtml": EVIL + chapter("&e;")}), "entités"),
    "externe.xhtml": ((EVIL + chapter("&e;")).encode(), "entités"),
    "rires.docx": (docx(paragraph("&b;"), head=LAUGHS), "entités"),
    "verrouillé.zip": (lock_zip(zipped({"a.txt": SAID})), "protégé par un mot de passe"),
    "verrouillé.docx": (OLE, "protégé par un mot de passe"),
    "verrouillé.odt": (
        odt("<text:p>x</text:p>", manifest="<m><encryption-data/></m>"),
        "protégé par un mot de passe",
    ),
    "verrouillé.epub": (
        epub({"a.xhtml": noise(99)}, encryption="<e><CipherReference URI='OEBPS/a.xhtml'/></e>"),
        r"verrouillé \(DRM\)",
    ),
    "vide.docx": (docx(""), "n'a aucun texte"),
    "vide.odt": (odt(""), "n'a aucun texte"),
    "vide.epub": (epub({}), "n'a aucun texte"),
    "vide.zip": (zipped({}), "ne contient aucun fichier"),
    "images.zip": (zipped({"a.png": b"\0"}), "ne contient aucun fichier"),
    "zip_de_zip.zip": (zipped({"a.zip": zipped({"a.txt": SAID})}), "ne contient aucun fichier"),
    "archive.zip.gz": (gzip.compress(zipped({"a.txt": SAID})), "archive dans une autre"),
    "archive.tar.gz": (gzip.compress(SAID.encode()), "faites-en un .zip"),
    "ancien.doc": (OLE, "enregistrez-le en .docx"),
    "riche.rtf": (b"{\\rtf1 x}", "enregistrez-le en .docx"),
    "riche_caché.txt": (b"{\\rtf1 x}", "mais un .rtf"),
    "pdf_caché.txt": (pdf(lines(SAID)), "mais un .pdf"),
    "docx_caché.pdf": (docx(paragraph(SAID)), "commence comme un .zip"),
    "pdf_caché.docx": (pdf(lines(SAID)), "commence comme un .pdf"),
    "sans_temps.srt": (SAID.encode(), "n'a aucun temps"),
    "sans_corps.docx": (zipped({"_rels/.rels": "<r/>"}), "n'a pas word/document.xml"),
    "sans_chapitre.epub": (
        epub({"a.xhtml": "x"}).replace(b"OEBPS/a.xhtml", b"OEBPS/b.xhtml"),
        "n'a pas OEBPS/a.xhtml",
    ),
    "sans_contenant.epub": (zipped({"a": "b"}), "n'a pas META-INF/container.xml"),
}


def bad(name: str) -> bytes:
    content = BAD[name][0]
    return content() if callable(content) else content
