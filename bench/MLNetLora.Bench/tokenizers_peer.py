"""Hugging Face tokenizers for `bench text --peer "python3 tokenizers_peer.py FOLDER"`: a line of JSON sets the texts, a line `METHOD PASSES` measures."""
import array, gc, hashlib, json, sys, time
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1]).backend_tokenizer
texts = []
for line in sys.stdin:
    if line.startswith("["):
        texts = json.loads(line)
        print(len(texts), flush=True)
        continue
    method, passes = line.split()
    encode = getattr(tokenizer, method)
    gc.collect()
    gc.disable()
    begun = time.perf_counter()
    for _ in range(int(passes)):
        encodings = [encode(text, add_special_tokens=False) for text in texts] if method == "encode" else encode(texts, add_special_tokens=False)
    seconds = time.perf_counter() - begun
    gc.enable()
    ids = hashlib.sha256()
    for encoding in encodings:
        ids.update(array.array("i", encoding.ids).tobytes())
    print(seconds, ids.hexdigest(), flush=True)
