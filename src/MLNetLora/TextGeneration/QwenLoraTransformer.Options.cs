using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.TextGeneration;

public sealed partial class QwenLoraTransformer
{
    /// <summary>
    /// What can be changed about a model without training it again: <see cref="With(Action{Options})"/>, <c>ml.TextGeneration.Load</c> and
    /// <c>ml.TextGeneration.LoadAdapter</c> hand out the options as they are, to be changed in place.
    /// </summary>
    public sealed class Options
    {
        internal Options(QwenLoraModel model)
        {
            ColumnNames columns = model.Columns;
            AnswerDetails details = columns.Details ?? new AnswerDetails();
            InstructionColumnName = columns.Instruction;
            InputColumnName = columns.Input;
            SystemColumnName = columns.System;
            HistoryColumnName = columns.History;
            ConversationColumnName = columns.Conversation;
            AnswerColumnName = columns.Answer;
            ThinkingColumnName = details.Thinking;
            FinishReasonColumnName = details.FinishReason;
            PromptTokensColumnName = details.PromptTokens;
            NewTokensColumnName = details.NewTokens;
            ErrorColumnName = details.Error;
            SystemPrompt = model.Prompt.SystemPrompt;
            PromptTemplate = model.Prompt.PromptTemplate;
            EnableThinking = model.Prompt.EnableThinking;
            Generation = model.Generation.Copy();
            WeightPrecision = model.Precision;
            Threads = model.Threads;
            Device = model.Device;
        }

        /// <inheritdoc cref="QwenLoraTrainer.Options.InstructionColumnName"/>
        public string InstructionColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.InputColumnName"/>
        public string? InputColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.SystemColumnName"/>
        public string? SystemColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.HistoryColumnName"/>
        public string? HistoryColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.ConversationColumnName"/>
        public string? ConversationColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.AnswerColumnName"/>
        public string AnswerColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.ThinkingColumnName"/>
        public string? ThinkingColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.FinishReasonColumnName"/>
        public string? FinishReasonColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.PromptTokensColumnName"/>
        public string? PromptTokensColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.NewTokensColumnName"/>
        public string? NewTokensColumnName { get; set; }

        /// <inheritdoc cref="QwenLoraTrainer.Options.ErrorColumnName"/>
        public string? ErrorColumnName { get; set; }

        /// <summary>System message of every conversation without its own; an adapter answers best with the one that it was trained with. Another one
        /// opens another engine.</summary>
        public string? SystemPrompt { get; set; }

        /// <summary>What the user's message is made of; an adapter answers best with the one that it was trained with. Another one opens another
        /// engine.</summary>
        public string? PromptTemplate { get; set; }

        /// <summary>enable_thinking of the checkpoint's chat template, where it reads one (Qwen3). Another value opens another engine.</summary>
        public bool? EnableThinking { get; set; }

        /// <summary>How answers are generated.</summary>
        public GenerationOptions Generation { get; set; }

        /// <summary>How the base's weights are held while answers are generated. Another value opens another engine.</summary>
        public WeightPrecision WeightPrecision { get; set; }

        /// <summary>
        /// Threads that answers are computed with; 0 takes all cores. Default: those of the training, 0 where a model was loaded. Not saved. Another
        /// number opens another engine.
        /// </summary>
        public int Threads { get; set; }

        /// <summary>
        /// Where answers are computed, on a GPU in bfloat16, or in float16 where it has none. Default: where the model was trained; where it was loaded, the
        /// GPU that the MLContext names, else the processor. Not saved. Another device opens another engine.
        /// </summary>
        public Device Device { get; set; }

        /// <summary>
        /// Ends with an <see cref="OperationCanceledException"/> what the transformer is doing: passes over its views, prediction engines, its own
        /// methods. Not saved. Default: none.
        /// </summary>
        public CancellationToken CancellationToken { get; set; }

        /// <summary>The model with these options.</summary>
        /// <exception cref="OptionException">One of them makes no sense.</exception>
        internal QwenLoraModel Apply(QwenLoraModel model)
        {
            Require.Defined(WeightPrecision, nameof(WeightPrecision));
            Require.Threads(Threads, nameof(Threads));
            Require.That(Device is not null, nameof(Device), null, "given: Device.Cpu, a CudaDevice or a CustomDevice");
            Device!.Validate();
            Require.That(Generation is not null, nameof(Generation), null, "given");
            Generation!.Validate();
            Text.PromptTemplate.Validate(PromptTemplate);
            ColumnNames columns = model.Columns with
            {
                Instruction = InstructionColumnName,
                Input = InputColumnName,
                System = SystemColumnName,
                History = HistoryColumnName,
                Conversation = ConversationColumnName,
                Answer = AnswerColumnName,
                Details = new AnswerDetails(
                    ThinkingColumnName,
                    FinishReasonColumnName,
                    PromptTokensColumnName,
                    NewTokensColumnName,
                    ErrorColumnName),
            };
            columns = columns.Normalized();
            columns.Validate();
            return model with
            {
                Columns = columns,
                Prompt = model.Prompt with { SystemPrompt = SystemPrompt, PromptTemplate = PromptTemplate, EnableThinking = EnableThinking },
                Generation = Generation.Copy(),
                Precision = WeightPrecision,
                Threads = Threads,
                Device = Device,
            };
        }
    }
}
