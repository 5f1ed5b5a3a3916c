"""The same LoRA step in transformers and PEFT, or with --unsloth in Unsloth: rank 16 on all linear layers, bfloat16, recomputed blocks, half of the tokens
labelled. One line of JSON."""
import json
import sys
import time

folder, batch, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
by_unsloth = "--unsloth" in sys.argv
if by_unsloth:
    from unsloth import FastLanguageModel  # before the others, which it changes

import torch


def of_peft():
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="flash_attention_2")
        attention = "flash_attention_2"
    except (ImportError, ValueError):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
        attention = "sdpa"
    model = get_peft_model(model.cuda(), LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return model, attention


def of_unsloth():
    model, _ = FastLanguageModel.from_pretrained(folder, max_seq_length=length, dtype=torch.bfloat16, load_in_4bit=False)
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=16, lora_dropout=0, use_gradient_checkpointing=True,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    return model, "unsloth"


model, attention = of_unsloth() if by_unsloth else of_peft()
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
ids = torch.randint(0, 1000, (batch, length), device="cuda")
labels = ids.clone()
labels[:, : length // 2] = -100
seconds = []
for _ in range(11):
    torch.cuda.synchronize()
    begun = time.time()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    torch.cuda.synchronize()
    seconds.append(time.time() - begun)
seconds = sorted(seconds[1:])
median = seconds[len(seconds) // 2]
print(json.dumps({"median": median, "tokens_per_second": batch * length / median, "attention": attention,
                  "peak_bytes": torch.cuda.max_memory_allocated(), "torch": torch.__version__}))
