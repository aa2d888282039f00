"""Programs with the names, command lines and endpoints of Ray 2.53 and vllm-omni 0.16, without what is inside them."""
